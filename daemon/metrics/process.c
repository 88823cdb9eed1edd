/* See process.h. */
#include "daemon/metrics/process.h"

#include "daemon/assert.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t metrics_now_us(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

uint64_t metrics_resident_bytes(void)
{
	unsigned long long total = 0;
	unsigned long long resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");
	if (file == NULL)
		return 0; /* /proc may be hidden by the sandbox: unknown is reported as 0 */
	if (fscanf(file, "%llu %llu", &total, &resident) != 2)
		resident = 0;
	(void)fclose(file); /* only read */
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t metrics_cpu_us(void)
{
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage) < 0)
		return 0;
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000u +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void metrics_process(struct metrics_text *text, uint64_t started_us)
{
	static const struct metrics_family cpu = {"process_cpu_seconds_total", METRICS_COUNTER,
						  "User and system time of the process."};
	static const struct metrics_family memory = {"process_resident_memory_bytes", METRICS_GAUGE,
						     "Resident memory of the process, 0 where /proc is hidden."};
	static const struct metrics_family start = {"process_start_time_seconds", METRICS_GAUGE,
						    "When the process started, in seconds since 1970."};
	struct timespec wall;
	int r = clock_gettime(CLOCK_REALTIME, &wall);
	raft_assert(r == 0);
	/* By today's wall clock: an hour that was set meanwhile moves it. */
	uint64_t wall_us = (uint64_t)wall.tv_sec * 1000000u + (uint64_t)wall.tv_nsec / 1000u;
	metrics_single_seconds(text, &cpu, metrics_cpu_us());
	metrics_single(text, &memory, metrics_resident_bytes());
	metrics_single_seconds(text, &start, wall_us - (metrics_now_us() - started_us));
}
