/*
 * raft-linearizability: checks histories that were written to files.
 *
 * Exit status: 0 all are linearizable, 1 one is not, 2 one cannot be read, 3 one was too hard. With several files
 * a violation counts before a file that cannot be read, and that before one that was too hard.
 */
#include "tests/linearizability/history_file.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum status { STATUS_OK, STATUS_VIOLATION, STATUS_BAD_INPUT, STATUS_GAVE_UP, STATUS_KINDS };

static enum status check_file(const char *path, const struct lin_options *options)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	if (file == NULL) {
		printf("%s: cannot be opened: %s\n", path, strerror(errno));
		return STATUS_BAD_INPUT;
	}
	struct lin_checker *checker = lin_new(options);
	char message[LIN_MESSAGE_SIZE];
	enum status status = STATUS_BAD_INPUT;
	if (lin_read(file, checker, message) != 0) {
		printf("%s: %s\n", path, message);
	} else {
		enum lin_verdict verdict = lin_finish(checker);
		struct lin_statistics statistics = lin_statistics(checker);
		status = verdict == LIN_LINEARIZABLE ? STATUS_OK
			 : verdict == LIN_VIOLATION  ? STATUS_VIOLATION
						     : STATUS_GAVE_UP;
		printf("%s: %" PRIu64 " operations, %" PRIu64 " of unknown fate, %" PRIu64 " keys, %" PRIu64
		       " states: ",
		       path, statistics.operations, statistics.unknown, statistics.keys, statistics.states);
		fflush(stdout);
		lin_explain(checker, stdout);
	}
	lin_free(checker);
	if (file != stdin)
		(void)fclose(file); /* it was only read */
	return status;
}

static int usage(FILE *file)
{
	fputs("usage: raft-linearizability [--states N] [--window N] FILE...\n"
	      "  --states N  combinations visited before it gives up\n"
	      "  --window N  check a key as soon as N of its operations are finished and none is open, and forget "
	      "them\n"
	      "exit status: 0 linearizable, 1 not linearizable, 2 bad input, 3 gave up; the format is in "
	      "tests/linearizability/README.md\n",
	      file);
	return file == stdout ? STATUS_OK : STATUS_BAD_INPUT;
}

static bool parse_size(const char *text, size_t *ret_size)
{
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || text[0] < '0' || text[0] > '9')
		return false;
	*ret_size = number;
	return true;
}

int main(int argc, char **argv)
{
	static const struct option names[] = {{"states", required_argument, NULL, 's'},
					      {"window", required_argument, NULL, 'w'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	struct lin_options options = {0};
	int name;
	while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (name == 'h')
			return usage(stdout);
		if ((name == 's' && parse_size(optarg, &options.states_max)) ||
		    (name == 'w' && parse_size(optarg, &options.window)))
			continue;
		return usage(stderr);
	}
	if (optind == argc)
		return usage(stderr);
	bool seen[STATUS_KINDS] = {false};
	for (int k = optind; k < argc; k++)
		seen[check_file(argv[k], &options)] = true;
	for (enum status status = STATUS_VIOLATION; status < STATUS_KINDS; status++)
		if (seen[status])
			return (int)status;
	return STATUS_OK;
}
