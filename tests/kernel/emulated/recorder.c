/*
 * Touches anonymous pages in the order of a trace, inside a memory cgroup, and prints what the
 * kernel counted: the program that runs inside the emulated machine (see emulate.py).
 *
 * usage: recorder TOUCHES PAGES CGROUP WAIT_MS
 *   TOUCHES  uint32 per touch: page, bit 31 set for a write
 *   PAGES    one byte per page: how many of its 64-byte lines hold random bytes; 0 is a page of
 *            zeros, 255 one of zeros but for its last word
 *   CGROUP   folder of the cgroup, made and limited already
 *   WAIT_MS  between two samples; each sample reads memory.stat, which brings statistics up to date
 *
 * The parent stays outside of the cgroup, and everything both share is charged to it, so that the
 * cgroup holds the touched pages and their page tables alone.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define STEPS 1000
#define GIB (1ul << 30)
#define TEXT_BYTES (1 << 16)
#define MAX_SAMPLES 65536

struct shared {
	volatile int go, done;
	uint64_t began_ns, ended_ns, steps_ns[STEPS];
	long minflt, majflt;
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void *share(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

static void *load(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *at;

	if (fd < 0 || fstat(fd, &st))
		die(path);
	at = share(st.st_size);
	for (size_t done = 0; done < (size_t)st.st_size;) {
		ssize_t got = read(fd, at + done, st.st_size - done);

		if (got <= 0)
			die(path);
		done += got;
	}
	close(fd);
	*bytes = st.st_size;
	return at;
}

static void fill(char *page, uint32_t number, int lines)
{
	uint64_t word = number * 0x9E3779B97F4A7C15ull + 1;
	size_t bytes = lines == 255 ? 0 : lines * 64 > 4088 ? 4088 : lines * 64;

	if (!lines)
		return;
	for (size_t at = 0; at < bytes; at += 8) {
		word ^= word << 13;
		word ^= word >> 7;
		word ^= word << 17;
		memcpy(page + at, &word, 8);
	}
	/* The last word is what the kernel's test for zero pages looks at first. */
	memcpy(page + 4088, "\1\2\3\4\0\0\0", 8);
}

static void touch_all(const uint32_t *touches, size_t count, const uint8_t *lines, size_t pages,
		      char *seen, struct shared *shared)
{
	struct rusage before, after;
	size_t step = 0;
	char *space, *base;

	/* Page tables begin with the first page, as the model has it. */
	space = mmap(NULL, pages * PAGE + GIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		     -1, 0);
	if (space == MAP_FAILED)
		die("mmap");
	base = (char *)(((uintptr_t)space + GIB - 1) & ~(GIB - 1));
	if (mmap(base, pages * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		die("mmap");
	madvise(base, pages * PAGE, MADV_NOHUGEPAGE);
	getrusage(RUSAGE_SELF, &before);
	while (!shared->go)
		usleep(1000);
	shared->began_ns = now();
	for (size_t at = 0; at < count; at++) {
		uint32_t page = touches[at] & 0x7FFFFFFF;
		volatile char *byte = base + page * PAGE;

		if (!seen[page]) {
			seen[page] = 1;
			*byte = 0;
			fill(base + page * PAGE, page, lines[page]);
		} else if (touches[at] >> 31) {
			*byte = *byte; /* reads, then writes */
		} else {
			(void)*byte;
		}
		while (step < STEPS && (at + 1) * STEPS >= (step + 1) * count)
			shared->steps_ns[step++] = now() - shared->began_ns;
	}
	shared->ended_ns = now();
	getrusage(RUSAGE_SELF, &after);
	shared->minflt = after.ru_minflt - before.ru_minflt;
	shared->majflt = after.ru_majflt - before.ru_majflt;
	shared->done = 1;
	for (;;)
		usleep(1000); /* the counters are read while the pages are still there */
}

static size_t slurp(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY);
	ssize_t got = fd < 0 ? 0 : read(fd, text, room - 1);

	if (fd >= 0)
		close(fd);
	got = got < 0 ? 0 : got;
	text[got] = 0;
	return got;
}

static long field(const char *text, const char *name)
{
	size_t length = strlen(name);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, length) && line[length] == ' ')
			return atol(line + length);
	}
	return 0;
}

static char cgroup[256], text[TEXT_BYTES];

static const char *in_cgroup(const char *name)
{
	static char path[512];

	snprintf(path, sizeof path, "%s/%s", cgroup, name);
	return path;
}

static long number(const char *path)
{
	return slurp(path, text, sizeof text) ? atol(text) : 0;
}

/* What is told apart by a heading, so that a few lines of text carry everything out. */
static void print_counters(const char *when)
{
	static const char *const kept[] = {
		"memory.current", "memory.peak", "memory.swap.current", "memory.zswap.current",
		"memory.usage_in_bytes", "memory.kmem.usage_in_bytes", "memory.failcnt",
	};
	static const char *const debug[] = {
		"duplicate_entry", "written_back_pages", "reject_compress_poor", "reject_compress_fail",
		"reject_kmemcache_fail", "reject_alloc_fail", "reject_reclaim_fail", "pool_limit_hit",
		"stored_pages", "same_filled_pages", "pool_total_size",
	};
	char path[256];

	slurp("/proc/vmstat", text, sizeof text);
	printf("== vmstat %s\n%s", when, text);
	printf("== zswap_debug %s\n", when);
	for (size_t i = 0; i < sizeof debug / sizeof *debug; i++) {
		snprintf(path, sizeof path, "/sys/kernel/debug/zswap/%s", debug[i]);
		if (slurp(path, text, sizeof text))
			printf("%s %s", debug[i], text);
	}
	slurp(in_cgroup("memory.stat"), text, sizeof text);
	printf("== memcg %s\n%s", when, text);
	slurp(in_cgroup("memory.events"), text, sizeof text);
	printf("== memcg_events %s\n%s", when, text);
	slurp(in_cgroup("memory.oom_control"), text, sizeof text);
	printf("== oom_control %s\n%s", when, text);
	printf("== memcg_misc %s\n", when);
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
		if (slurp(in_cgroup(kept[i]), text, sizeof text))
			printf("%s %s", kept[i], text);
}

int main(int argc, char **argv)
{
	size_t touch_bytes, pages, samples = 0;
	uint32_t *touches;
	uint8_t *lines;
	struct shared *shared;
	uint64_t(*rows)[10];
	char *seen;
	int status = 0, is_v1, wait_ms;
	pid_t child;
	FILE *procs;

	if (argc != 5) {
		fprintf(stderr, "usage: recorder TOUCHES PAGES CGROUP WAIT_MS\n");
		return 2;
	}
	touches = load(argv[1], &touch_bytes);
	lines = load(argv[2], &pages);
	snprintf(cgroup, sizeof cgroup, "%s", argv[3]);
	wait_ms = atoi(argv[4]);
	is_v1 = !access(in_cgroup("memory.usage_in_bytes"), F_OK);
	shared = share(sizeof *shared);
	seen = share(pages);
	rows = calloc(MAX_SAMPLES, sizeof *rows);
	fflush(stdout);
	child = fork();
	if (child < 0)
		die("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
		touch_all(touches, touch_bytes / 4, lines, pages, seen, shared);
	}
	usleep(50000);
	procs = fopen(in_cgroup("cgroup.procs"), "w");
	if (!procs || fprintf(procs, "%d\n", child) < 0 || fclose(procs))
		die("cgroup.procs");
	print_counters("before");
	fflush(stdout);
	shared->go = 1;
	while (!shared->done && !waitpid(child, &status, WNOHANG)) {
		uint64_t *row = rows[samples];
		long stat;
		unsigned long stored, used;

		/*
		 * The only wake-ups of this process: each switch empties the emulator's translation
		 * cache, and with it touches become visible to reclaim that it hides otherwise.
		 */
		usleep(wait_ms * 1000);
		if (waitpid(child, &status, WNOHANG))
			goto over;
		if (shared->done)
			break;
		if (!shared->began_ns || samples == MAX_SAMPLES)
			continue;
		slurp(in_cgroup("memory.stat"), text, sizeof text);
		row[0] = now() - shared->began_ns;
		stat = field(text, is_v1 ? "rss" : "anon");
		row[2] = stat / PAGE;
		row[3] = field(text, "inactive_anon") / PAGE;
		row[4] = field(text, "active_anon") / PAGE;
		row[5] = field(text, "zswap") / PAGE;
		row[6] = field(text, "zswapped") / PAGE;
		row[7] = field(text, "swap") / PAGE;
		row[1] = number(in_cgroup(is_v1 ? "memory.usage_in_bytes" : "memory.current")) / PAGE;
		if (!is_v1)
			row[7] = number(in_cgroup("memory.swap.current")) / PAGE;
		if (slurp("/sys/block/zram0/mm_stat", text, sizeof text) &&
		    sscanf(text, "%lu %*u %lu", &stored, &used) == 2) {
			row[8] = used / PAGE;
			row[9] = stored / PAGE;
		} else {
			row[8] = number("/sys/kernel/debug/zswap/pool_total_size") / PAGE;
			row[9] = number("/sys/kernel/debug/zswap/stored_pages");
		}
		samples++;
	}
over:
	print_counters("after");
	printf("== samples\n");
	for (size_t i = 0; i < samples; i++) {
		for (int j = 0; j < 10; j++)
			printf("%llu ", (unsigned long long)rows[i][j]);
		printf("\n");
	}
	printf("== kreplay\nfinished %d\n", shared->done);
	if (shared->done) {
		printf("records %zu\npages %zu\nminflt %ld\nmajflt %ld\nwall_ns %llu\n", touch_bytes / 4,
		       pages, shared->minflt, shared->majflt,
		       (unsigned long long)(shared->ended_ns - shared->began_ns));
		printf("== elapsed_us\n");
		for (int i = 0; i < STEPS; i++)
			printf("%llu ", (unsigned long long)shared->steps_ns[i] / 1000);
		printf("\n");
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	printf("== status\nexit %d\n", shared->done ? 0 : WTERMSIG(status));
	return 0;
}
