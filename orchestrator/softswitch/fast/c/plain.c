/* Table entries read from their messages: p4.v1.Update as protobuf serializes it (P4Runtime 1.4, 9.1).
 *
 * What is plainly right becomes a row of numbers. All else (an error, another kind of entity, an argument
 * of more than 64 bits, a field given twice) is left to Python, which knows P4Runtime's rules and the words
 * for who breaks them. So nothing is refused here, and nothing doubtful taken.
 *
 * Rows are 64-bit words: 0 for what is left; else the table's place + 1, type of update, action's index,
 * priority, prefix length, controller_metadata, where metadata starts and its size; then the match (exact:
 * a word a field, in the order of the key; else the packed key, lowest word first, and of a ternary table
 * a mask alike, and low and high of each range), and the action's arguments up to the most that the table's actions take.
 */
#include "base.h"

enum { INSERT = 1, MODIFY, DELETE };
enum form { EXACT, LPM, TERNARY };
enum kind { KIND_EXACT, KIND_TERNARY, KIND_LPM, KIND_RANGE, KIND_OPTIONAL };
enum { HEAD = 8, MAX_PARAMS = 16, MAX_FIELDS = 32, MAX_KEY = 8 };

/* A table as `plain.py` describes it: words of 32 bits, then its fields, then its actions. */
struct table {
    u32 words, id, form, key_words, field_count, range_count, action_count, params;
};
struct field {
    u32 id, kind, width, place; /* bit offset in the key; of an exact table, and of ranges, their number */
};
struct action {
    u32 id, index, count; /* then id and width of each parameter */
};

struct view {
    const u8 *at, *end;
};

/* The next field of a message. Its value is `number`, or `bytes`. */
struct part {
    u32 field;
    bool is_bytes;
    u64 number;
    struct view bytes;
};

static bool varint(struct view *v, u64 *out)
{
    u64 value = 0;
    for (unsigned shift = 0; shift < 64 && v->at < v->end; shift += 7) {
        u8 byte = *v->at++;
        value |= (u64)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool next(struct view *v, struct part *p)
{
    u64 tag;
    if (!varint(v, &tag) || tag >> 32 || !varint(v, &p->number))
        return false;
    p->field = (u32)tag >> 3;
    p->is_bytes = (tag & 7) == 2;
    if (!p->is_bytes)
        return (tag & 7) == 0;
    if (p->number > (u64)(v->end - v->at))
        return false;
    p->bytes = (struct view){v->at, v->at + p->number};
    v->at += p->number;
    return true;
}

/* Marks a field of a message as seen; false: it was, or is not of this kind. */
static bool once(u32 *seen, const struct part *p, bool is_bytes)
{
    u32 bit = 1u << (p->field & 31);
    bool fresh = p->field < 32 && !(*seen & bit) && p->is_bytes == is_bytes;
    *seen |= bit;
    return fresh;
}

/* A value of at least one byte that fits `width` bits. Wider ones than 128 bits do not come here. */
static bool value(struct view v, u32 width, u128 *out)
{
    if (v.at == v.end || v.end - v.at > 16)
        return false;
    u128 number = 0;
    while (v.at < v.end)
        number = number << 8 | *v.at++;
    *out = number;
    return width >= 128 || !(number >> width);
}

static u128 ones128(u32 width)
{
    return width >= 128 ? ~(u128)0 : ((u128)1 << width) - 1;
}

struct match {
    u64 key[MAX_KEY], mask[MAX_KEY], length;
    u64 numbers[2 * MAX_FIELDS]; /* of an exact table's fields; low and high of ranges */
};

static void put(u64 *words, u32 place, u128 number)
{
    u32 shift = place % 64;
    u64 parts[] = {(u64)number, (u64)(number >> 64)};
    words += place / 64;
    for (unsigned i = 0; i < 2; i++) {
        if (parts[i]) /* there is no word behind the last bit */
            words[i] |= parts[i] << shift;
        if (shift && parts[i] >> (64 - shift))
            words[i + 1] |= parts[i] >> (64 - shift);
    }
}

/* The two values of a match of one field; what is absent has no bytes, or is 0. */
struct given {
    struct view first, second;
    u64 number;
};

static bool take_given(struct view v, struct given *g)
{
    struct part p;
    u32 seen = 0;
    while (v.at < v.end) {
        if (!next(&v, &p) || p.field > 2 || !once(&seen, &p, p.is_bytes))
            return false;
        if (!p.is_bytes)
            g->number = p.number;
        else
            *(p.field == 1 ? &g->first : &g->second) = p.bytes;
    }
    return true;
}

static bool take_field(const struct table *t, const struct field *f, const struct given *g,
                       struct match *m)
{
    u128 first, second = 0;
    if (!value(g->first, f->width, &first))
        return false;
    switch ((enum kind)f->kind) {
    case KIND_EXACT:
        if (t->form == EXACT) {
            m->numbers[f->place] = (u64)first;
            return true;
        }
        second = ones128(f->width);
        break;
    case KIND_TERNARY:
        if (!value(g->second, f->width, &second) || !second || first & ~second)
            return false;
        break;
    case KIND_LPM:
        if (!g->number || g->number > f->width)
            return false;
        second = ones128((u32)g->number) << (f->width - (u32)g->number);
        if (first & ~second)
            return false;
        m->length = g->number;
        break;
    case KIND_RANGE:
        if (!value(g->second, f->width, &second) || first > second ||
            (!first && second == ones128(f->width)))
            return false;
        m->numbers[2 * f->place] = (u64)first;
        m->numbers[2 * f->place + 1] = (u64)second;
        return true;
    case KIND_OPTIONAL:
        second = ones128(f->width);
        break;
    }
    put(m->key, f->place, first);
    put(m->mask, f->place, second);
    return true;
}

static const u8 MESSAGE_OF[] = {
    [KIND_EXACT] = 2, [KIND_TERNARY] = 3, [KIND_LPM] = 4, [KIND_RANGE] = 6, [KIND_OPTIONAL] = 7,
};

/* One field match; `seen` has a bit for each field of the table. */
static bool take_match(const struct table *t, const struct field *fields, struct view v, u64 *seen,
                       struct match *m)
{
    struct part p;
    struct given g = {0};
    u32 id = 0, kind = 0, parts = 0;
    while (v.at < v.end) {
        if (!next(&v, &p) || !once(&parts, &p, p.field != 1))
            return false;
        if (p.field == 1)
            id = (u32)p.number;
        else if (kind || !take_given(p.bytes, &g))
            return false;
        else
            kind = p.field;
    }
    for (u32 i = 0; i < t->field_count; i++)
        if (fields[i].id == id) {
            if (*seen >> i & 1 || MESSAGE_OF[fields[i].kind] != kind)
                return false;
            *seen |= (u64)1 << i;
            return take_field(t, &fields[i], &g, m);
        }
    return false;
}

static bool take_params(const struct action *a, const struct view *params, u32 count, u64 *args)
{
    const u32 *wanted = (const u32 *)(a + 1);
    if (count != a->count)
        return false;
    for (u32 i = 0; i < count; i++) {
        struct view v = params[i];
        struct part p;
        u32 seen = 0, at = count, id = 0;
        u128 number = 0;
        struct view bytes = {0};
        while (v.at < v.end) {
            if (!next(&v, &p) || !once(&seen, &p, p.field == 3))
                return false;
            if (p.field == 3)
                bytes = p.bytes;
            else if (p.field == 2)
                id = (u32)p.number;
            else
                return false;
        }
        for (u32 k = 0; k < count; k++)
            if (wanted[2 * k] == id)
                at = k;
        for (u32 k = 0; k < i; k++) /* as many as wanted, and none twice: so all are there */
            if (at < count && args[MAX_PARAMS + k] == at)
                return false;
        if (at == count || !value(bytes, wanted[2 * at + 1], &number))
            return false;
        args[MAX_PARAMS + i] = at;
        args[at] = (u64)number;
    }
    return true;
}

static bool take_action(const struct table *t, const struct action *a, struct view v, u64 *row,
                        u64 *args)
{
    struct part p;
    struct view params[MAX_PARAMS];
    u32 seen = 0, count = 0, id = 0;
    if (!next(&v, &p) || p.field != 1 || !p.is_bytes || v.at != v.end)
        return false; /* TableAction: only what names one action */
    v = p.bytes;
    while (v.at < v.end) {
        if (!next(&v, &p))
            return false;
        if (p.field == 1 && once(&seen, &p, false))
            id = (u32)p.number;
        else if (p.field == 4 && p.is_bytes && count < MAX_PARAMS)
            params[count++] = p.bytes;
        else
            return false;
    }
    for (u32 i = 0; i < t->action_count; i++) {
        if (a->id == id) {
            row[2] = a->index;
            return take_params(a, params, count, args);
        }
        a = (const struct action *)((const u32 *)(a + 1) + 2 * a->count);
    }
    return false;
}

static bool table_id(struct view v, u32 *id)
{
    struct part p;
    if (!next(&v, &p) || p.field != 1 || p.is_bytes)
        return false; /* protobuf writes fields in the order of their numbers */
    *id = (u32)p.number;
    return true;
}

/* Of a table's entry: the row behind its first two words. */
static bool take_entry(const struct table *t, struct view v, u64 kind, const u8 *start, u64 *row)
{
    const struct field *fields = (const struct field *)(t + 1);
    const struct action *actions = (const struct action *)(fields + t->field_count);
    struct match m = {0};
    struct part p;
    struct view action = {0};
    u64 args[2 * MAX_PARAMS] = {0}, given = 0;
    u32 seen = 0;
    for (u32 i = 0; i < t->field_count; i++)
        if (fields[i].kind == KIND_RANGE)
            m.numbers[2 * fields[i].place + 1] = (u64)ones128(fields[i].width);
    while (v.at < v.end) {
        if (!next(&v, &p))
            return false;
        if (p.field == 2) {
            if (!p.is_bytes || !take_match(t, fields, p.bytes, &given, &m))
                return false;
            continue;
        }
        if (!once(&seen, &p, p.field == 3 || p.field == 11))
            return false;
        switch (p.field) {
        case 1:
            break;
        case 3:
            action = p.bytes;
            break;
        case 4:
            row[3] = p.number;
            break;
        case 5:
            row[5] = p.number;
            break;
        case 11:
            row[6] = (u64)(p.bytes.at - start);
            row[7] = (u64)(p.bytes.end - p.bytes.at);
            break;
        default: /* the default entry, counters, meters, times */
            return false;
        }
    }
    for (u32 i = 0; i < t->field_count; i++)
        if (fields[i].kind == KIND_EXACT && !(given >> i & 1))
            return false;
    /* A priority is positive where there must be one, and 0 elsewhere. */
    if (t->form == TERNARY ? !row[3] || row[3] > INT32_MAX : row[3] != 0)
        return false;
    if (kind != DELETE && !(seen & 1u << 3))
        return false;
    if (kind != DELETE && !take_action(t, actions, action, row, args))
        return false;
    row[4] = m.length;
    u64 *at = row + HEAD;
    if (t->form == EXACT) {
        memcpy(at, m.numbers, t->field_count * sizeof *at);
        at += t->field_count;
    } else {
        memcpy(at, m.key, t->key_words * sizeof *at);
        at += t->key_words;
    }
    if (t->form == TERNARY) {
        memcpy(at, m.mask, t->key_words * sizeof *at);
        at += t->key_words;
        memcpy(at, m.numbers, 2 * t->range_count * sizeof *at);
        at += 2 * t->range_count;
    }
    memcpy(at, args, t->params * sizeof *at);
    return true;
}

static u64 row_words(const struct table *t)
{
    u64 key = t->form == EXACT ? t->field_count : t->key_words;
    return HEAD + key + (t->form == TERNARY ? key + 2 * t->range_count : 0) + t->params;
}

/* Words of the row, at least one. */
static u64 take_update(const u32 *tables, u32 count, struct view v, const u8 *start, u64 *row)
{
    struct part p;
    u64 kind;
    u32 id;
    *row = 0;
    if (!next(&v, &p) || p.field != 1 || p.is_bytes || p.number < INSERT || p.number > DELETE)
        return 1;
    kind = p.number;
    if (!next(&v, &p) || p.field != 2 || !p.is_bytes || v.at != v.end)
        return 1;
    v = p.bytes;
    if (!next(&v, &p) || p.field != 2 || !p.is_bytes || v.at != v.end || !table_id(p.bytes, &id))
        return 1;
    for (u32 i = 0; i < count; i++) {
        const struct table *t = (const struct table *)tables;
        tables += t->words;
        if (t->id != id)
            continue;
        u64 words = row_words(t);
        memset(row, 0, words * sizeof *row);
        if (!take_entry(t, p.bytes, kind, start, row)) {
            *row = 0;
            return 1;
        }
        row[0] = i + 1;
        row[1] = kind;
        return words;
    }
    return 1;
}

/* The rows of `updates` messages, of which each ends at one of `ends`; `rows` has room for all. */
__attribute__((visibility("default"))) void plain_rows(const u32 *tables, u32 count,
                                                      const u8 *messages, const u64 *ends,
                                                      u64 updates, u64 *rows);

void plain_rows(const u32 *tables, u32 count, const u8 *messages, const u64 *ends, u64 updates,
                u64 *rows)
{
    const u8 *at = messages;
    for (u64 i = 0; i < updates; i++) {
        struct view v = {at, messages + ends[i]};
        rows += take_update(tables, count, v, messages, rows);
        at = messages + ends[i];
    }
}
