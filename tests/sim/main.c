/* raft-sim: options. One run happens in this process, so that a debugger sees it; many runs each in a process of its own. */
#include "jobs.h"

#include "daemon/config/config.h"
#include "history.h"

#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define EXIT_USAGE 64

struct arguments {
	struct sim_options options;
	bool seed, seeds, seconds, trace, history;
	const char *replay;
};

static int usage(void)
{
	fputs("usage: raft-sim --seed S [--seconds T] [--members N] [--trace]       one run\n"
	      "       raft-sim --replay FILE [--trace]                             one run, as the file says\n"
	      "       raft-sim --seeds A-B [--jobs N] [--seconds T] [--members N]  many runs\n"
	      "       raft-sim --minutes M [--seed S] [--jobs N] [...]             new seeds for so long, or until SIGINT\n"
	      "\n"
	      "  --trace              one run: every event as text\n"
	      "  --history FILE       one run: what clients asked and were told, for raft-linearizability\n"
	      "  --seconds T          of simulated time with faults (default 60)\n"
	      "  --members N          instead of what the seed says\n"
	      "  --reach COUNT=N      the run fails when it gets there: finds, and shrinks, a run in which something\n"
	      "                       happens; of several all must be reached. Counts are those of a verdict line\n"
	      "  --quiet              many runs: only failures and the summary\n"
	      "  --table              many runs: the summary as tables, how often each fault happened, in how many seeds\n"
	      "  --no-shrink          many runs: leave the plans of failures as they are\n"
	      "  --shrink-seconds T   of real time for shrinking one failure (default 60)\n"
	      "  --patience T         many runs: seconds of real time until a run hangs (default 120)\n"
	      "  --out DIRECTORY      for replay files of what was shrunk (default: the current one)\n",
	      stderr);
	return EXIT_USAGE;
}

static bool parse_range(const char *text, uint64_t *first, uint64_t *last)
{
	char copy[64];
	if (strlen(text) >= sizeof copy)
		return false;
	strcpy(copy, text);
	char *dash = strchr(copy, '-');
	if (dash == NULL)
		return false;
	*dash = '\0';
	return config_parse_u64(copy, 0, UINT64_MAX, first) && config_parse_u64(dash + 1, *first, UINT64_MAX, last);
}

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t factor, uint64_t *ret)
{
	uint64_t value;
	if (!config_parse_u64(text, low, high, &value))
		return false;
	*ret = value * factor;
	return true;
}

/* Also a fraction of a minute. */
static bool parse_minutes(const char *text, uint64_t *ret_ms)
{
	char *end;
	double minutes = strtod(text, &end);
	if (end == text || *end != '\0' || !(minutes > 0 && minutes <= 100000))
		return false;
	*ret_ms = (uint64_t)(minutes * 60000) + 1;
	return true;
}

static bool parse_option(struct arguments *arguments, int option, const char *value)
{
	struct sim_options *options = &arguments->options;
	uint64_t jobs;
	switch (option) {
	case 's':
		return arguments->seed = config_parse_u64(value, 0, UINT64_MAX, &options->first_seed);
	case 'S':
		return arguments->seeds = parse_range(value, &options->first_seed, &options->last_seed);
	case 'm':
		return parse_minutes(value, &options->run_ms);
	case 'p':
		return parse_number(value, 1, 86400, 1000, &options->hang_ms);
	case 't':
		return arguments->seconds = parse_number(value, 1, 10000000, 1000000, &options->span_us);
	case 'n':
		return parse_number(value, 1, SIM_MEMBERS_MAX, 1, &options->members);
	case 'j':
		if (!parse_number(value, 1, SIM_JOBS_MAX, 1, &jobs))
			return false;
		options->jobs = (unsigned)jobs;
		return true;
	case 'x':
		return parse_number(value, 1, 86400, 1000, &options->shrink_ms);
	case 'X':
		options->shrink_ms = 0;
		return true;
	case 'g':
		return sim_plan_reach(&options->goals, value);
	case 'r':
		arguments->replay = value;
		return true;
	case 'o':
		options->directory = value;
		return true;
	case 'H':
		sim_history_write_to(value);
		return arguments->history = true;
	case 'T':
		arguments->trace = true;
		return true;
	case 'q':
		options->quiet = true;
		return true;
	case 'c':
		options->table = true;
		return true;
	default:
		return false;
	}
}

static bool parse(struct arguments *arguments, int argc, char **argv)
{
	static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
					      {"seeds", required_argument, NULL, 'S'},
					      {"minutes", required_argument, NULL, 'm'},
					      {"seconds", required_argument, NULL, 't'},
					      {"members", required_argument, NULL, 'n'},
					      {"jobs", required_argument, NULL, 'j'},
					      {"shrink-seconds", required_argument, NULL, 'x'},
					      {"no-shrink", no_argument, NULL, 'X'},
					      {"reach", required_argument, NULL, 'g'},
					      {"replay", required_argument, NULL, 'r'},
					      {"out", required_argument, NULL, 'o'},
					      {"history", required_argument, NULL, 'H'},
					      {"patience", required_argument, NULL, 'p'},
					      {"trace", no_argument, NULL, 'T'},
					      {"quiet", no_argument, NULL, 'q'},
					      {"table", no_argument, NULL, 'c'},
					      {NULL, 0, NULL, 0}};
	const struct sim_options *options = &arguments->options;
	int option;
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!parse_option(arguments, option, optarg))
			return false;
	if (optind < argc)
		return false;
	if (arguments->replay != NULL) /* the file says it all */
		return !arguments->seed && !arguments->seeds && !arguments->seconds && options->run_ms == 0 &&
		       options->members == 0 && !options->goals.reaching;
	if ((arguments->trace || arguments->history) && (arguments->seeds || options->run_ms > 0))
		return false;
	if (arguments->seeds)
		return !arguments->seed && options->run_ms == 0;
	return arguments->seed || options->run_ms > 0;
}

/* What failed has been said by then. */
static void on_abort(int number)
{
	(void)number;
	_exit(EXIT_FAILURE);
}

static int run_one(struct sim_plan *plan, bool trace)
{
	struct sim_result result = {0};
	(void)signal(SIGABRT, on_abort);
	(void)setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is lost when an assertion ends the process */
	sim_run(plan, &result, trace);
	sim_print_passed(plan, &result);
	sim_plan_fini(plan);
	return EXIT_SUCCESS;
}

static int run_replay(const char *path, bool trace)
{
	struct sim_plan plan;
	char message[SIM_PLAN_MESSAGE_MAX];
	if (sim_plan_read(&plan, path, message) != 0) {
		fprintf(stderr, "raft-sim: %s\n", message);
		return EXIT_USAGE;
	}
	return run_one(&plan, trace);
}

/* A run allocates and frees the same sizes again and again: what it gave back stays with it, rather than the kernel's. */
static void keep_memory(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	(void)mallopt(M_TOP_PAD, 4 << 20);
}

int main(int argc, char **argv)
{
	keep_memory();
	struct arguments arguments = {.options = {.program = argv[0],
						  .span_us = 60000000,
						  .jobs = 1,
						  .shrink_ms = 60000,
						  .hang_ms = 120000,
						  .directory = "."}};
	struct sim_options *options = &arguments.options;
	if (!parse(&arguments, argc, argv))
		return usage();
	if (arguments.replay != NULL)
		return run_replay(arguments.replay, arguments.trace);
	if (options->run_ms > 0) {
		if (!arguments.seed && getrandom(&options->first_seed, 4, 0) != 4)
			return EXIT_FAILURE;
		printf("seeds from %" PRIu64 "\n", options->first_seed);
	} else if (!arguments.seeds) {
		struct sim_plan plan;
		sim_options_plan(options, options->first_seed, &plan);
		return run_one(&plan, arguments.trace);
	}
	return sim_jobs_run(options) > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
