// An action that several tables of a block would share, made for one of them: a direct counter counts for
// the actions of its own table only. P4Info has it as <table>.<verb>, so that readers know the verb.
// SPDX-License-Identifier: Apache-2.0
#ifndef SHARED_ACTIONS_P4
#define SHARED_ACTIONS_P4

#define STRING_OF(text) #text
#define ACTION_OF(table, verb) @name(STRING_OF(table.verb)) action table##_##verb

#endif
