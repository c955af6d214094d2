#define _GNU_SOURCE
#include "privileges.h"

#include <grp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

bool confine(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
    return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

bool become(u32 user)
{
    bool done = !setgroups(0, NULL) && !setresgid(user, user, user) && !setresuid(user, user, user) &&
                !prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    /* glibc changes all threads; who could go back has not become the user. */
    if (done && setuid(0) < 0)
        return true;
    perror("become another user");
    return false;
}
