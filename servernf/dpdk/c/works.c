#include "works.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE 10 /* a tenth of a core whose packets keep it busy */

static pthread_t thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct work *first, **last = &first; /* with the lock */
static bool ending;
static atomic_uint under_way;
static atomic_bool failed;
static bool has_thread;
static int done_fd = -1;

static void do_one(struct work *work)
{
    if (!work->run(work))
        atomic_store(&failed, true);
}

static void *run(void *unused)
{
    (void)unused;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE); /* a thread has its own on Linux */
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!first && !ending)
            pthread_cond_wait(&more, &lock);
        struct work *work = first;
        if (!work)
            break;
        first = work->next;
        if (!first)
            last = &first;
        pthread_mutex_unlock(&lock);
        do_one(work);
        if (atomic_fetch_sub(&under_way, 1) == 1)
            eventfd_write(done_fd, 1);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

bool works_open(void)
{
    sigset_t all, before;
    done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* ticks are for who has the packets */
    has_thread = done_fd >= 0 && !pthread_create(&thread, NULL, run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return has_thread;
}

void works_close(void)
{
    if (!has_thread)
        return;
    pthread_mutex_lock(&lock);
    ending = true;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
    pthread_join(thread, NULL);
    has_thread = false;
    close(done_fd);
}

void work_begin(struct work *work)
{
    if (!has_thread) {
        do_one(work);
        return;
    }
    work->next = NULL;
    atomic_fetch_add(&under_way, 1);
    pthread_mutex_lock(&lock);
    *last = work;
    last = &work->next;
    pthread_cond_signal(&more);
    pthread_mutex_unlock(&lock);
}

bool works_done(void)
{
    return !atomic_load(&under_way);
}

bool works_failed(void)
{
    return atomic_exchange(&failed, false);
}

int works_fd(void)
{
    return done_fd;
}

void works_heard(void)
{
    eventfd_t count;
    eventfd_read(done_fd, &count);
}
