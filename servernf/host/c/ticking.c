#include "ticking.h"

#include <signal.h>
#include <sys/time.h>

#define TICK_US 100000

static volatile sig_atomic_t ticked;

static void tick(int number)
{
    (void)number;
    ticked = 1;
}

void start_ticking(void)
{
    struct sigaction action = {.sa_handler = tick}; /* no SA_RESTART */
    struct itimerval every = {{0, TICK_US}, {0, TICK_US}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
}

bool has_ticked(void)
{
    if (!ticked)
        return false;
    ticked = 0;
    return true;
}
