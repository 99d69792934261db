/* A process with this library before others sees clocks that are wrong in a way that somebody else chooses while it runs.
 *
 * The file that SKEWED_CLOCK names is mapped. It tells how far the wall clock is off, and how fast all clocks run. Nothing
 * here allocates: allocators ask for the time too. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL
#define MILLION 1000000LL

/* As `Skew::bytes` in clocks.rs writes it. */
struct skew {
    uint64_t changes;       /* odd while the rest is being changed */
    int64_t wall_offset_ns; /* of the wall clock alone */
    int64_t since_ns;       /* the true monotonic time from which the rate counts */
    int64_t gained_ns;      /* what all clocks are ahead at that time */
    int64_t rate_ppm;       /* what they gain in each million from then on */
};

static const volatile struct skew *file;

static long (*true_syscall)(long, ...);
static int (*true_gettime)(clockid_t, struct timespec *);
static int (*true_epoll_wait)(int, struct epoll_event *, int, int);

__attribute__((constructor)) static void begin(void) {
    true_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    true_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    true_epoll_wait = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    if (file) return;
    const char *path = getenv("SKEWED_CLOCK");
    int opened = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (opened < 0) return;
    void *mapped = mmap(NULL, sizeof(struct skew), PROT_READ, MAP_SHARED, opened, 0);
    close(opened);
    if (mapped != MAP_FAILED) file = mapped;
}

static struct skew skew(void) {
    struct skew copy = {0};
    while (file) {
        uint64_t before = __atomic_load_n(&file->changes, __ATOMIC_ACQUIRE);
        copy.wall_offset_ns = file->wall_offset_ns;
        copy.since_ns = file->since_ns;
        copy.gained_ns = file->gained_ns;
        copy.rate_ppm = file->rate_ppm;
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (before % 2 == 0 && before == __atomic_load_n(&file->changes, __ATOMIC_RELAXED)) break;
    }
    return copy;
}

static int64_t nanoseconds(const struct timespec *time) { return time->tv_sec * SECOND_NS + time->tv_nsec; }

static struct timespec timespec(int64_t ns) {
    struct timespec time = {.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
    return time;
}

/* What all clocks are ahead at a true monotonic time. */
static int64_t gained_ns(const struct skew *skew, int64_t true_ns) {
    return skew->gained_ns + (int64_t)((__int128)(true_ns - skew->since_ns) * skew->rate_ppm / MILLION);
}

/* The true monotonic time at which the process is told this one. */
static int64_t told_at_ns(const struct skew *skew, int64_t told_ns) {
    __int128 since_told = told_ns - skew->since_ns - skew->gained_ns;
    return skew->since_ns + (int64_t)(since_told * MILLION / (MILLION + skew->rate_ppm));
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!true_gettime) begin();
    if (true_gettime(clock, time) != 0) return -1;
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_MONOTONIC_RAW ||
                 clock == CLOCK_BOOTTIME;
    if (!file || (!wall && !steady)) return 0;
    struct skew now = skew();
    struct timespec monotonic;
    if (true_gettime(CLOCK_MONOTONIC, &monotonic) != 0) return -1;
    int64_t told_ns = nanoseconds(time) + gained_ns(&now, nanoseconds(&monotonic));
    *time = timespec(told_ns + (wall ? now.wall_offset_ns : 0));
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

/* Timers run by the same clock: who believes that a second has passed does not sleep for a true one. */
int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms) {
    if (!true_epoll_wait) begin();
    struct skew now = skew();
    if (timeout_ms > 0 && now.rate_ppm != 0) timeout_ms = (int)(timeout_ms * MILLION / (MILLION + now.rate_ppm));
    return true_epoll_wait(epoll, events, most, timeout_ms);
}

/* Threads wait for each other until a time of the clock that they are told; the kernel knows the true one. */
long syscall(long number, ...) {
    if (!true_syscall) begin();
    long words[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++) words[i] = va_arg(rest, long);
    va_end(rest);
    struct timespec until;
    if (number == SYS_futex && file && words[3] != 0) {
        long command = words[1] & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
        if (command == FUTEX_WAIT_BITSET && !(words[1] & FUTEX_CLOCK_REALTIME)) {
            struct skew now = skew();
            int64_t true_ns = told_at_ns(&now, nanoseconds((const struct timespec *)words[3]));
            until = timespec(true_ns > 0 ? true_ns : 0);
            words[3] = (long)&until;
        }
    }
    return true_syscall(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
