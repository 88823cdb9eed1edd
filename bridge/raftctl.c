/*
 * raftctl: the operator's tool. This file is its command line and nothing else: one table says which commands there
 * are, what they take and what they do; parsing, usage and help all follow from it.
 *
 * Options stand before the command or right after it; the first word that is no option ends them, so that a key or
 * value that begins with '-' needs no escape.
 */
#include "raftctl.h"

#include "kv/limits.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_PATH_DEFAULT "/etc/raft/raft.conf"
#define TIMEOUT_MS_DEFAULT 5000u
#define TIMEOUT_MS_MAX 3600000u

/* One option each; a command names those that it understands. */
enum ctl_option {
	OPTION_CONFIG = 1u << 0,
	OPTION_TIMEOUT = 1u << 1,
	OPTION_ID = 1u << 2,
	OPTION_JSON = 1u << 3,
	OPTION_STALE = 1u << 4,
	OPTION_REVISIONS = 1u << 5,
	OPTION_DATA = 1u << 6,
	OPTION_FROM = 1u << 7,
	OPTION_TO = 1u << 8,
	OPTION_VALUES = 1u << 9,
	OPTION_HELP = 1u << 10,
	OPTION_VERSION = 1u << 11,
	OPTION_LEARNER = 1u << 12,
	OPTION_FORCE = 1u << 13,
	OPTION_YES = 1u << 14,
	OPTION_ROLLING = 1u << 15,
	OPTION_BRIDGE = 1u << 16,
	OPTION_DRY_RUN = 1u << 17,
	OPTION_LIVE = 1u << 18,
	OPTION_READY = 1u << 19,
	OPTION_COUNT = 1u << 20,
	OPTION_NAME = 1u << 21,
};
#define OPTIONS_EVERYWHERE (OPTION_CONFIG | OPTION_TIMEOUT | OPTION_ID | OPTION_HELP | OPTION_VERSION)
#define NEEDS_NO_CONFIG (1u << 30) /* it makes one */
#define HAS_VERB (1u << 31)	   /* the first argument says what to do, and options may follow it */

struct ctl_command {
	const char *name;
	const char *usage; /* after the name */
	const char *about;
	unsigned options; /* besides OPTIONS_EVERYWHERE; and HAS_VERB, NEEDS_NO_CONFIG */
	int arguments_min, arguments_max;
	int (*run)(struct ctl *ctl);
};

static const struct ctl_command commands[] = {
	{"status", "[--json]", "who leads, who lags, whether all copies agree", OPTION_JSON, 0, 0, ctl_status},
	{"health", "[--live | --ready] [--json]",
	 "is every member well, or the one of --id? --live: its loop turns and its disk answers;\n"
	 "                 --ready, the default: it also knows a leader and is up to date",
	 OPTION_LIVE | OPTION_READY | OPTION_JSON, 0, 0, ctl_health},
	{"watch-cluster", "[--json] [--count N]",
	 "the leader's heart, live: each beat with who answered it and how soon, and changes\n"
	 "                 of roles; says when it stops. Ends after N beats, or with Ctrl-C",
	 OPTION_JSON | OPTION_COUNT, 0, 0, ctl_watch},
	{"get", "[-s] KEY", "print the value; -s: of any member that answers (or --id), possibly old", OPTION_STALE, 1,
	 1, ctl_get},
	{"put", "KEY VALUE", "store the value; '-': read it from stdin", 0, 2, 2, ctl_put},
	{"delete", "KEY", "remove the key", 0, 1, 1, ctl_delete},
	{"transfer", "[N]", "hand leadership to member N, or to the best one", 0, 0, 1, ctl_transfer},
	{"dump", "--id N [--revisions]", "the store of one member, in order, as put commands", OPTION_REVISIONS, 0, 0,
	 ctl_dump},
	{"log", "(--id N | --data DIR) [--from I] [--to I] [--values]",
	 "a member's log, one entry a line: index, term, time, session:sequence,\n"
	 "                 operation, key, size. --data: from the directory of a stopped member",
	 OPTION_DATA | OPTION_FROM | OPTION_TO | OPTION_VALUES, 0, 0, ctl_log},
	{"member",
	 "list [--json] | add [--learner] ID PEER CLIENT | remove ID | promote ID |\n"
	 "         replace OLD-ID ID PEER CLIENT | move ID PEER CLIENT",
	 "who belongs to the cluster; one change at a time. A member that is added receives\n"
	 "                 everything and votes once it has caught up; with --learner only when promoted.\n"
	 "                 replace: add one, wait until it votes, remove the old one; a dead one first",
	 HAS_VERB | OPTION_JSON | OPTION_LEARNER, 1, 5, ctl_member},
	{"bootstrap", "--id N",
	 "found the cluster on member N although not all members were heard: only for the\n"
	 "                 very first start, and on one member only",
	 0, 0, 0, ctl_bootstrap},
	{"snapshot", "--id N", "have member N write a snapshot of its state now", 0, 0, 0, ctl_snapshot},
	{"reload", "--id N",
	 "have member N read its configuration again; says what took effect and what needs\n"
	 "                 a restart",
	 0, 0, 0, ctl_reload},
	{"verify", "", "compare all members' copies now, while clients write", 0, 0, 0, ctl_verify},
	{"backup", "[--force] FILE", "write the state of the leader, or of member --id, to a file that did not exist",
	 OPTION_FORCE, 1, 1, ctl_backup},
	{"restore", "--data DIR [--force] FILE",
	 "make an empty directory one of a new cluster with the state of a backup. Start its\n"
	 "                 member; the others of the configuration file join with empty directories",
	 OPTION_DATA | OPTION_FORCE, 1, 1, ctl_restore},
	{"check", "--data DIR", "verify every byte of a stopped member's directory; changes nothing", OPTION_DATA, 0, 0,
	 ctl_check},
	{"recover", "--data DIR --yes [--force]",
	 "when a majority is lost for good: make what this stopped member has a cluster of\n"
	 "                 one. Says what may be lost; the old directory is kept beside it",
	 OPTION_DATA | OPTION_YES | OPTION_FORCE, 0, 0, ctl_recover},
	{"init", "[--name NAME] [--force] (N | HOST…)",
	 "write the configuration --config for a new cluster: N members on this host, or one on\n"
	 "                 each of these hosts. Never over an existing file without --force",
	 OPTION_NAME | OPTION_FORCE | NEEDS_NO_CONFIG, 1, RAFT_MEMBERS_MAX, ctl_init},
	{"restart", "--rolling [--bridge] [--dry-run] [--force]",
	 "restart the members that systemd runs on this host (or only --id N) one after\n"
	 "                 another, the leader last, each when the one before has caught up; with --bridge\n"
	 "                 the bridge after them. Stops when the cluster is not well; --force does not",
	 OPTION_ROLLING | OPTION_BRIDGE | OPTION_DRY_RUN | OPTION_FORCE, 0, 0, ctl_restart},
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static const struct option long_options[] = {
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"timeout", required_argument, NULL, OPTION_TIMEOUT},
	{"id", required_argument, NULL, OPTION_ID},
	{"json", no_argument, NULL, OPTION_JSON},
	{"stale", no_argument, NULL, OPTION_STALE},
	{"revisions", no_argument, NULL, OPTION_REVISIONS},
	{"data", required_argument, NULL, OPTION_DATA},
	{"from", required_argument, NULL, OPTION_FROM},
	{"to", required_argument, NULL, OPTION_TO},
	{"values", no_argument, NULL, OPTION_VALUES},
	{"learner", no_argument, NULL, OPTION_LEARNER},
	{"force", no_argument, NULL, OPTION_FORCE},
	{"yes", no_argument, NULL, OPTION_YES},
	{"rolling", no_argument, NULL, OPTION_ROLLING},
	{"bridge", no_argument, NULL, OPTION_BRIDGE},
	{"dry-run", no_argument, NULL, OPTION_DRY_RUN},
	{"count", required_argument, NULL, OPTION_COUNT},
	{"live", no_argument, NULL, OPTION_LIVE},
	{"ready", no_argument, NULL, OPTION_READY},
	{"name", required_argument, NULL, OPTION_NAME},
	{"help", no_argument, NULL, OPTION_HELP},
	{"version", no_argument, NULL, OPTION_VERSION},
	{0},
};

int ctl_fail(enum ctl_exit code, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	(void)fputs("raftctl: ", stderr); /* nothing can be done when even stderr fails */
	(void)vfprintf(stderr, format, arguments);
	(void)fputc('\n', stderr);
	va_end(arguments);
	return (int)code;
}

static void print_help(FILE *file)
{
	fprintf(file, "usage: raftctl [--config FILE] [--timeout MILLISECONDS] [--id N] COMMAND\n\n");
	for (size_t k = 0; k < N_COMMANDS; k++)
		fprintf(file, "  %s %s\n                 %s\n", commands[k].name, commands[k].usage, commands[k].about);
	fprintf(file,
		"  help [commands]\n                 this text; commands: a table for programs, with tabs\n\n"
		"--config   the cluster's configuration, default " CONFIG_PATH_DEFAULT "\n"
		"--timeout  for the whole command (dump, log, backup: for each page), default %u;\n"
		"           restart: for each member to be back and caught up, default 120000\n"
		"--id       the member to ask, and with --data whose directory it is; get, put, delete, transfer and\n"
		"           backup find the leader themselves\n"
		"--data     the directory of a member that does not run\n\n"
		"Exit codes: 0 done; 1 not found, status or verify found no leader or copies that differ, health a\n"
		"member that is not well, check damage, or restart the cluster not well; 2 usage or configuration; 3 "
		"a\n"
		"member cannot be reached; 4 refused, or an error on this\n"
		"host; 5 no answer in time: of a write, it may or may not take effect.\n",
		TIMEOUT_MS_DEFAULT);
}

static void print_options(unsigned options)
{
	const char *separator = "";
	for (const struct option *option = long_options; option->name != NULL; option++) {
		if ((options & (unsigned)option->val) == 0)
			continue;
		printf("%s--%s%s", separator, option->name, option->has_arg == required_argument ? "=" : "");
		separator = " ";
	}
}

/* Of a command with verbs: the first word of each alternative of its usage. */
static void print_verbs(const struct ctl_command *command)
{
	const char *separator = "";
	const char *at = (command->options & HAS_VERB) != 0 ? command->usage : NULL;
	while (at != NULL) {
		at += strspn(at, " |\n");
		printf("%s%.*s", separator, (int)strcspn(at, " |\n"), at);
		separator = " ";
		at = strchr(at, '|');
	}
}

/* Several lines as one, with single spaces. */
static void print_joined(const char *text)
{
	bool space = false;
	for (; *text != '\0'; text++) {
		if (*text == ' ' || *text == '\n') {
			space = true;
			continue;
		}
		if (space)
			(void)putchar(' ');
		space = false;
		(void)putchar(*text);
	}
}

/* For the shells' completion, and for tests of the manual page: name, options, verbs, about, with tabs between. The first line, without
 * a name, has the options of all commands. */
static void print_commands(void)
{
	printf("\t");
	print_options(OPTIONS_EVERYWHERE);
	printf("\t\t\n");
	for (size_t k = 0; k < N_COMMANDS; k++) {
		printf("%s\t", commands[k].name);
		print_options(commands[k].options);
		printf("\t");
		print_verbs(&commands[k]);
		printf("\t");
		print_joined(commands[k].about);
		printf("\n");
	}
	printf("help\t\tcommands\tthis text\n");
}

static int usage(const struct ctl_command *command, const char *what, const char *which)
{
	(void)fprintf(stderr, "raftctl: %s%s\n", what, which);
	if (command != NULL)
		(void)fprintf(stderr, "usage: raftctl [OPTIONS] %s %s\n", command->name, command->usage);
	(void)fprintf(stderr, "'raftctl help' shows everything\n");
	return CTL_USAGE;
}

/* Sets one option. NULL, or what is wrong with its value. */
static const char *take_option(struct ctl_options *options, int option, const char *text)
{
	uint64_t number;
	switch ((enum ctl_option)option) {
	case OPTION_CONFIG:
		options->config_path = text;
		return NULL;
	case OPTION_DATA:
		options->data = text;
		return NULL;
	case OPTION_NAME:
		options->name = text;
		return NULL;
	case OPTION_TIMEOUT:
		if (!config_parse_u64(text, 1, TIMEOUT_MS_MAX, &number))
			return "--timeout takes milliseconds, 1 to 3600000, not ";
		options->timeout_ms = (uint32_t)number;
		options->timeout_given = true;
		return NULL;
	case OPTION_ID:
		return config_parse_u64(text, 1, INT64_MAX, &options->id) ? NULL : "--id takes a member's number, not ";
	case OPTION_FROM:
		return config_parse_u64(text, 1, UINT64_MAX, &options->from) ? NULL : "--from takes an index, not ";
	case OPTION_TO:
		return config_parse_u64(text, 1, UINT64_MAX, &options->to) ? NULL : "--to takes an index, not ";
	case OPTION_JSON:
		options->json = true;
		return NULL;
	case OPTION_STALE:
		options->stale = true;
		return NULL;
	case OPTION_REVISIONS:
		options->revisions = true;
		return NULL;
	case OPTION_VALUES:
		options->values = true;
		return NULL;
	case OPTION_LEARNER:
		options->learner = true;
		return NULL;
	case OPTION_FORCE:
		options->force = true;
		return NULL;
	case OPTION_YES:
		options->yes = true;
		return NULL;
	case OPTION_ROLLING:
		options->rolling = true;
		return NULL;
	case OPTION_BRIDGE:
		options->bridge = true;
		return NULL;
	case OPTION_DRY_RUN:
		options->dry_run = true;
		return NULL;
	case OPTION_COUNT:
		return config_parse_u64(text, 1, UINT64_MAX, &options->count) ? NULL
									      : "--count takes a number of beats, not ";
	case OPTION_LIVE:
		options->live = true;
		return NULL;
	case OPTION_READY:
		options->ready = true;
		return NULL;
	case OPTION_HELP:
	case OPTION_VERSION:
		break;
	}
	return NULL;
}

/* Reads the options at the front of argv[1] … and sets optind behind them; adds to *given. Returns CTL_OK or CTL_USAGE. */
static int parse_options(int argc, char **argv, struct ctl_options *options, unsigned *given)
{
	optind = 0; /* begin anew: this runs before and after the command */
	for (;;) {
		int option = getopt_long(argc, argv, "+:hs", long_options, NULL);
		switch (option) {
		case -1:
			return CTL_OK;
		case '?':
			return usage(NULL, "unknown option ", argv[optind - 1]);
		case ':':
			return usage(NULL, "a value is missing after ", argv[optind - 1]);
		case 'h':
			option = OPTION_HELP;
			break;
		case 's':
			option = OPTION_STALE;
			break;
		default:
			break;
		}
		*given |= (unsigned)option;
		const char *wrong = take_option(options, option, optarg);
		if (wrong != NULL)
			return usage(NULL, wrong, optarg);
	}
}

static const struct ctl_command *find_command(const char *name)
{
	for (size_t k = 0; k < N_COMMANDS; k++)
		if (strcmp(commands[k].name, name) == 0)
			return &commands[k];
	return NULL;
}

static const char *first_refused_option(const struct ctl_command *command, unsigned given)
{
	unsigned refused = given & ~(command->options | OPTIONS_EVERYWHERE);
	for (const struct option *option = long_options; option->name != NULL; option++)
		if ((refused & (unsigned)option->val) != 0)
			return option->name;
	return NULL;
}

static void report_config_mistake(void *arg, const char *line)
{
	(void)arg;
	(void)fprintf(stderr, "%s\n", line);
}

static int run_command(struct ctl *ctl, const struct ctl_command *command, unsigned given)
{
	const char *refused = first_refused_option(command, given);
	if (refused != NULL)
		return usage(command, "this command does not take --", refused);
	if (ctl->n_arguments < command->arguments_min)
		return usage(command, "too few arguments for ", command->name);
	if (ctl->n_arguments > command->arguments_max)
		return usage(command, "too many arguments, from ", ctl->arguments[command->arguments_max]);
	if ((command->options & NEEDS_NO_CONFIG) != 0)
		return command->run(ctl);
	if (config_read(ctl->options.config_path, &ctl->config, report_config_mistake, NULL) != 0)
		return ctl_fail(CTL_USAGE, "cannot use the configuration %s; --config names another",
				ctl->options.config_path);
	if (ctl->options.data == NULL)
		ctl_discover(ctl);
	if (ctl->options.id != 0 && config_find_member(&ctl->config, ctl->options.id) == NULL)
		return ctl_fail(CTL_USAGE, "neither the cluster nor %s has a member %llu", ctl->options.config_path,
				(unsigned long long)ctl->options.id);
	int code = command->run(ctl);
	if (fflush(stdout) != 0 || ferror(stdout) != 0)
		return ctl_fail(CTL_FAILED, "cannot write to stdout");
	return code;
}

/* Reads what follows the command, argv[0]: options, for some a verb and options again, arguments. */
static int parse_arguments(int argc, char **argv, const struct ctl_command *command, struct ctl *ctl, unsigned *given)
{
	int code = parse_options(argc, argv, &ctl->options, given);
	if (code != CTL_OK)
		return code;
	argc -= optind;
	argv += optind;
	if ((command->options & HAS_VERB) != 0 && argc > 0) {
		char *verb = argv[0];
		code = parse_options(argc, argv, &ctl->options, given);
		argc -= optind - 1;
		argv += optind - 1;
		argv[0] = verb; /* in front of the other arguments */
	}
	ctl->n_arguments = argc;
	ctl->arguments = argv;
	return code;
}

int main(int argc, char **argv)
{
	unsigned given = 0;
	struct ctl ctl = {.options = {.config_path = CONFIG_PATH_DEFAULT, .timeout_ms = TIMEOUT_MS_DEFAULT}};
	int code = parse_options(argc, argv, &ctl.options, &given);
	const struct ctl_command *command = NULL;
	const char *name = "";
	if (code == CTL_OK && optind < argc) {
		name = argv[optind];
		command = find_command(name);
		if (command != NULL)
			code = parse_arguments(argc - optind, argv + optind, command, &ctl, &given);
	}
	if (code != CTL_OK)
		return code;
	if ((given & OPTION_VERSION) != 0) {
		printf("raftctl %s\n", RAFT_KV_VERSION);
		return CTL_OK;
	}
	if ((given & OPTION_HELP) != 0 || strcmp(name, "help") == 0) {
		if (optind + 1 < argc && strcmp(argv[optind + 1], "commands") == 0)
			print_commands();
		else
			print_help(stdout);
		return CTL_OK;
	}
	if (command == NULL)
		return usage(NULL, *name == '\0' ? "which command?" : "unknown command ", name);
	return run_command(&ctl, command, given);
}
