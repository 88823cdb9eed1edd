/*
 * raft-bench: options in, figures out, as text or as one JSON object. bench.py starts clusters and calls this.
 */
#include "tests/bench/bench.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
	OPTION_SOCKET = 256,
	OPTION_ETCD,
	OPTION_DISK,
	OPTION_BLOCK,
	OPTION_GET,
	OPTION_KEY_SIZE,
	OPTION_VALUE_SIZE,
	OPTION_KEYS,
	OPTION_DISTRIBUTION,
	OPTION_THETA,
	OPTION_DURATION,
	OPTION_OPS,
	OPTION_WARMUP,
	OPTION_SEED,
	OPTION_PIDS,
	OPTION_JSON,
	OPTION_HELP,
};

static const struct option long_options[] = {
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"etcd", required_argument, NULL, OPTION_ETCD},
	{"disk", required_argument, NULL, OPTION_DISK},
	{"block", required_argument, NULL, OPTION_BLOCK},
	{"connections", required_argument, NULL, 'c'},
	{"depth", required_argument, NULL, 'd'},
	{"get", required_argument, NULL, OPTION_GET},
	{"key-size", required_argument, NULL, OPTION_KEY_SIZE},
	{"value-size", required_argument, NULL, OPTION_VALUE_SIZE},
	{"keys", required_argument, NULL, OPTION_KEYS},
	{"distribution", required_argument, NULL, OPTION_DISTRIBUTION},
	{"theta", required_argument, NULL, OPTION_THETA},
	{"duration", required_argument, NULL, OPTION_DURATION},
	{"ops", required_argument, NULL, OPTION_OPS},
	{"warmup", required_argument, NULL, OPTION_WARMUP},
	{"seed", required_argument, NULL, OPTION_SEED},
	{"pids", required_argument, NULL, OPTION_PIDS},
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

static const char help[] =
	"usage: raft-bench --socket PATH | --etcd HOST:PORT | --disk DIR [options]\n\n"
	"  --socket PATH        the bridge's socket, line protocol\n"
	"  --etcd HOST:PORT     etcd, gRPC over cleartext HTTP/2\n"
	"  --disk DIR           only the disk: overwrite a block, fdatasync, again (--block BYTES, 4096)\n"
	"  -c, --connections N  (1)\n"
	"  -d, --depth N        operations under way on each connection (1)\n"
	"  --get PERCENT        of all operations that read (0)\n"
	"  --key-size BYTES     (16)   --value-size BYTES (256)   --keys N (100000)\n"
	"  --distribution D     uniform, zipf (--theta 0.99) or sequential (uniform)\n"
	"  --duration SECONDS   of the measurement (10), or --ops N operations\n"
	"  --warmup SECONDS     before it (1, with --ops 0)\n"
	"  --seed N             (1)\n"
	"  --pids NAME=P,P,...  report what these processes consume; may be repeated\n"
	"  --json               one JSON object instead of text\n\n"
	"Exit codes: 0 done, 1 could not run or nothing was answered, 2 usage. Errors in replies are counted, not "
	"fatal.\n";

/* Options --------------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, double min, double max, double *ret)
{
	char *end;
	errno = 0;
	double value = strtod(text, &end);
	if (errno != 0 || end == text || *end != '\0' || !(value >= min && value <= max))
		return false;
	*ret = value;
	return true;
}

static bool parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || value < min || value > max)
		return false;
	*ret = value;
	return true;
}

/* NAME=P,P,... */
static bool parse_group(const char *text, struct bench_options *options)
{
	const char *equals = strchr(text, '=');
	if (equals == NULL || equals == text || options->n_groups == BENCH_GROUPS_MAX)
		return false;
	struct bench_group *group = &options->groups[options->n_groups];
	size_t size = (size_t)(equals - text);
	if (size >= sizeof group->name || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_") < size)
		return false;
	*group = (struct bench_group){.n_pids = 0};
	memcpy(group->name, text, size);
	const char *cursor = equals + 1;
	while (group->n_pids < BENCH_GROUP_PIDS_MAX) {
		char *end;
		long pid = strtol(cursor, &end, 10);
		if (end == cursor || pid < 1 || pid > 0x7fffffff || (*end != '\0' && *end != ','))
			return false;
		group->pids[group->n_pids++] = (int)pid;
		if (*end == '\0')
			break;
		cursor = end + 1;
	}
	options->n_groups++;
	return true;
}

static bool parse_distribution(const char *text, enum bench_distribution *ret)
{
	static const char *const names[] = {"uniform", "zipf", "sequential"};
	for (unsigned k = 0; k < sizeof names / sizeof names[0]; k++) {
		if (strcmp(text, names[k]) != 0)
			continue;
		*ret = (enum bench_distribution)k;
		return true;
	}
	return false;
}

static bool take_count(int option, const char *text, struct bench_options *options)
{
	uint64_t n = 0;
	switch (option) {
	case 'c':
		if (!parse_count(text, 1, BENCH_CONNECTIONS_MAX, &n))
			return false;
		options->connections = (unsigned)n;
		return true;
	case 'd':
		if (!parse_count(text, 1, BENCH_DEPTH_MAX, &n))
			return false;
		options->depth = (unsigned)n;
		return true;
	case OPTION_GET:
		if (!parse_count(text, 0, 100, &n))
			return false;
		options->get_percent = (unsigned)n;
		return true;
	case OPTION_KEY_SIZE:
		return parse_count(text, BENCH_KEY_SIZE_MIN, BENCH_KEY_SIZE_MAX, &options->key_size);
	case OPTION_VALUE_SIZE:
		return parse_count(text, 1, BENCH_VALUE_SIZE_MAX, &options->value_size);
	case OPTION_KEYS:
		return parse_count(text, 1, 10000000, &options->keys);
	case OPTION_OPS:
		return parse_count(text, 1, UINT64_MAX / 2, &options->ops);
	case OPTION_SEED:
		return parse_count(text, 0, UINT64_MAX / 2, &options->seed);
	case OPTION_BLOCK:
		return parse_count(text, 512, 8u * 1024u * 1024u, &options->disk_block);
	default:
		return false;
	}
}

static bool take_option(int option, const char *text, struct bench_options *options)
{
	switch (option) {
	case OPTION_SOCKET:
		options->socket = text;
		return true;
	case OPTION_ETCD:
		options->etcd = text;
		return true;
	case OPTION_DISK:
		options->disk = text;
		return true;
	case OPTION_DISTRIBUTION:
		return parse_distribution(text, &options->distribution);
	case OPTION_THETA:
		return parse_number(text, 0.01, 0.999, &options->zipf_theta);
	case OPTION_DURATION:
		return parse_number(text, 0.01, 86400, &options->duration_s);
	case OPTION_WARMUP:
		return parse_number(text, 0, 3600, &options->warmup_s);
	case OPTION_PIDS:
		return parse_group(text, options);
	case OPTION_JSON:
		options->json = true;
		return true;
	default:
		return take_count(option, text, options);
	}
}

static int usage(const char *what)
{
	(void)fprintf(stderr, "raft-bench: %s; --help shows the options\n", what);
	return 2;
}

/* What the options say together. NULL or what is wrong. */
static const char *check_options(const struct bench_options *options)
{
	int targets = (options->socket != NULL) + (options->etcd != NULL) + (options->disk != NULL);
	if (targets != 1)
		return "one of --socket, --etcd, --disk is needed";
	if (options->distribution == BENCH_ZIPF && options->keys < 3)
		return "zipf needs three keys or more";
	if (options->etcd != NULL && options->key_size + options->value_size > 16000)
		return "with --etcd, key and value together have at most 16000 bytes";
	if (pow(10, (double)options->key_size - 1) < (double)options->keys)
		return "so many keys need a larger --key-size";
	return NULL;
}

/* Results --------------------------------------------------------------------------------------------- */

static double per_op(double amount, const struct bench_result *result)
{
	uint64_t ops = result->all_ns.count;
	return ops > 0 ? amount / (double)ops : 0;
}

static void print_latency(const char *name, const struct histogram *histogram)
{
	if (histogram->count == 0)
		return;
	printf("%-6s %12llu %10.3f %10.3f %10.3f %10.3f\n", name, (unsigned long long)histogram->count,
	       (double)histogram_percentile(histogram, 0.5) / 1e6, (double)histogram_percentile(histogram, 0.99) / 1e6,
	       (double)histogram_percentile(histogram, 0.999) / 1e6, (double)histogram->max / 1e6);
}

static void print_text(const struct bench_options *options, const struct bench_result *result)
{
	printf("%.0f/s over %.2f s\n", (double)result->all_ns.count / result->seconds, result->seconds);
	printf("%-6s %12s %10s %10s %10s %10s  (ms)\n", "", "count", "p50", "p99", "p99.9", "max");
	if (options->disk != NULL) {
		print_latency("sync", &result->all_ns);
		return;
	}
	print_latency("put", &result->put_ns);
	print_latency("get", &result->get_ns);
	if (result->not_found > 0)
		printf("%llu gets found nothing\n", (unsigned long long)result->not_found);
	printf("CPU per operation: load %.2f us", per_op(result->cpu_us_own, result));
	for (unsigned k = 0; k < options->n_groups; k++)
		printf(", %s %.2f us", options->groups[k].name, per_op(result->cpu_us[k], result));
	printf("\n");
	if (result->errors > 0)
		printf("%llu errors, the first: %s\n", (unsigned long long)result->errors, result->first_error);
	if (result->unanswered > 0)
		printf("%llu operations were never answered\n", (unsigned long long)result->unanswered);
}

static void json_latency(const char *name, const struct histogram *histogram)
{
	printf(",\"%s\":{\"count\":%llu,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f}", name,
	       (unsigned long long)histogram->count, (double)histogram_percentile(histogram, 0.5) / 1e3,
	       (double)histogram_percentile(histogram, 0.99) / 1e3,
	       (double)histogram_percentile(histogram, 0.999) / 1e3, (double)histogram->max / 1e3);
}

static void json_text(const char *text)
{
	(void)putchar('"');
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		if (*c < 0x20 || *c >= 0x7f)
			printf("\\u%04x", *c); /* bytes beyond ASCII as if they were Latin-1: never invalid */
		else if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else
			(void)putchar(*c);
	}
	(void)putchar('"');
}

static void print_json(const struct bench_options *options, const struct bench_result *result)
{
	printf("{\"seconds\":%.6f,\"ops_per_second\":%.1f", result->seconds,
	       (double)result->all_ns.count / result->seconds);
	json_latency("all", &result->all_ns);
	json_latency("put", &result->put_ns);
	json_latency("get", &result->get_ns);
	printf(",\"not_found\":%llu,\"errors\":%llu,\"unanswered\":%llu,\"first_error\":",
	       (unsigned long long)result->not_found, (unsigned long long)result->errors,
	       (unsigned long long)result->unanswered);
	json_text(result->first_error);
	printf(",\"total_ops\":%llu,\"total_seconds\":%.6f,\"cpu_us_per_op\":{\"load\":%.3f",
	       (unsigned long long)result->total_ops, result->total_seconds, per_op(result->cpu_us_own, result));
	for (unsigned k = 0; k < options->n_groups; k++)
		printf(",\"%s\":%.3f", options->groups[k].name, per_op(result->cpu_us[k], result));
	printf("}}\n");
}

/* A thousand connections need more descriptors than many shells grant. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit); /* connecting tells when it was not enough */
}

int main(int argc, char **argv)
{
	struct bench_options options = {.connections = 1,
					.depth = 1,
					.key_size = 16,
					.value_size = 256,
					.keys = 100000,
					.zipf_theta = 0.99,
					.warmup_s = -1,
					.seed = 1,
					.disk_block = 4096};
	int option;
	while ((option = getopt_long(argc, argv, "c:d:", long_options, NULL)) != -1) {
		if (option == OPTION_HELP) {
			(void)fputs(help, stdout);
			return 0;
		}
		if (option == '?')
			return 2;
		if (!take_option(option, optarg, &options)) {
			(void)fprintf(stderr, "raft-bench: \"%s\" is not in the range of its option\n", optarg);
			return 2;
		}
	}
	if (optind < argc)
		return usage("there are options only, no arguments");
	const char *wrong = check_options(&options);
	if (wrong != NULL)
		return usage(wrong);
	if (options.warmup_s < 0)
		options.warmup_s = options.ops > 0 ? 0 : 1;
	if (options.duration_s <= 0 && options.ops == 0)
		options.duration_s = 10;
	raise_descriptor_limit();
	struct bench_result *result = calloc(1, sizeof *result);
	if (result == NULL)
		return usage("out of memory");
	int code = options.disk != NULL ? bench_disk(&options, result) : bench_run(&options, result);
	if (code == 0)
		(options.json ? print_json : print_text)(&options, result);
	if (code == 0 && result->all_ns.count == 0)
		code = 1;
	free(result);
	return code;
}
