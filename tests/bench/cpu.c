/*
 * What processes consumed so far. /proc/PID/task/TID/schedstat has nanoseconds, where /proc/PID/stat has hundredths of
 * a second; threads that ended in between are not seen, which for daemons is none.
 */
#include "tests/bench/bench.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t bench_now_ns(void)
{
	struct timespec now = {0};
	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double thread_us(const char *pid, const char *tid)
{
	char path[384];
	unsigned long long ns = 0;
	(void)snprintf(path, sizeof path, "/proc/%s/task/%s/schedstat", pid, tid);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return 0; /* it has ended meanwhile */
	if (fscanf(file, "%llu", &ns) != 1)
		ns = 0;
	(void)fclose(file); /* only read */
	return (double)ns / 1000.0;
}

double bench_cpu_us(int pid)
{
	char path[64];
	char text[16];
	double sum = 0;
	(void)snprintf(text, sizeof text, "%d", pid);
	(void)snprintf(path, sizeof path, "/proc/%d/task", pid);
	DIR *directory = opendir(path);
	if (directory == NULL)
		return -1;
	struct dirent *entry;
	while ((entry = readdir(directory)) != NULL)
		if (entry->d_name[0] != '.')
			sum += thread_us(text, entry->d_name);
	(void)closedir(directory);
	return sum;
}
