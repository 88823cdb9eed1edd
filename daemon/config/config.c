/*
 * Reads raft.conf: see config.h for the promise, README.md for the order of the steps.
 *
 * The only file of the project that includes iniparser, and of it only loading, iniparser_getstring and freeing: its typed
 * getters crash on a section's name and turn `12abc` into 12. Its dictionary is the source of the values; the scan is the source
 * of line numbers, and both must agree on every value.
 */
#include "daemon/config/config.h"

#include "daemon/assert.h"
#include "daemon/config/mistake.h"
#include "daemon/config/parse.h"
#include "daemon/config/scan.h"
#include "daemon/config/schema.h"

#if __has_include(<iniparser/iniparser.h>)
#include <iniparser/iniparser.h>
#else
#include <iniparser.h> /* Fedora */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DATA_ROOT_DEFAULT "/var/lib/raft"

/* A configuration on its way: complete only when mistakes.count stays 0. */
struct reading {
	struct config_mistakes mistakes;
	struct scan scan;
	dictionary *dictionary;
	struct config config;
};

static struct config_member *find_draft_member(struct config *config, uint64_t id)
{
	for (unsigned i = 0; i < config->n_members; i++) {
		if (config->members[i].id == id)
			return &config->members[i];
	}
	return NULL;
}

/* The first item before `end` with this section and key (NULL: the section itself). */
static struct scan_item *find_item(const struct scan *scan, size_t end, const char *section, const char *key)
{
	raft_assert(end <= scan->n_items && section != NULL);
	for (size_t i = 0; i < end; i++) {
		struct scan_item *item = &scan->items[i];
		if (item->section == NULL || strcmp(item->section, section) != 0)
			continue;
		if (key == NULL ? item->key == NULL : item->key != NULL && strcmp(item->key, key) == 0)
			return item;
	}
	return NULL;
}

/* 0: not given, the default holds. */
static unsigned line_of(const struct reading *reading, const char *section, const char *key)
{
	const struct scan_item *item = find_item(&reading->scan, reading->scan.n_items, section, key);

	return item != NULL ? item->line : 0;
}

/* First step: names ------------------------------------------------------------------------------------ */

static void check_section(struct reading *reading, size_t index)
{
	struct scan_item *item = &reading->scan.items[index];
	enum schema_section section;
	uint64_t id = 0;
	const char *why;
	char quoted[CONFIG_QUOTED_MAX];

	raft_assert(item->key == NULL && item->section != NULL);
	(void)config_quote(item->section, quoted);
	item->dropped = true;
	if (!schema_find_section(item->section, &section, &id, &why)) {
		config_mistake(&reading->mistakes, item->line, quoted, NULL, "%s", why);
		return;
	}
	const struct scan_item *first = find_item(&reading->scan, index, item->section, NULL);
	if (first != NULL) {
		config_mistake(&reading->mistakes, item->line, quoted, NULL,
			       "the section was opened in line %u already; allowed is one of each name", first->line);
		item->dropped = false; /* its keys are still those of the section */
		return;
	}
	if (section == SCHEMA_MEMBER) {
		if (reading->config.n_members == RAFT_MEMBERS_MAX) {
			config_mistake(&reading->mistakes, item->line, quoted, NULL,
				       "one member too many; a cluster has at most %u", RAFT_MEMBERS_MAX);
			return;
		}
		reading->config.members[reading->config.n_members++].id = id;
	}
	item->dropped = false;
}

static void check_key(struct reading *reading, size_t index)
{
	struct scan_item *item = &reading->scan.items[index];
	enum schema_section section;
	uint64_t id;
	const char *why;
	char quoted[CONFIG_QUOTED_MAX], list[512];

	raft_assert(item->key != NULL);
	bool malformed = item->dropped;
	item->dropped = true;
	(void)config_quote(item->key, quoted);
	if (item->section == NULL) {
		config_mistake(&reading->mistakes, item->line, NULL, quoted,
			       "the key stands before the first section; a line [cluster], [member N], [raft] or "
			       "[bridge] must come first");
		return;
	}
	if (!schema_find_section(item->section, &section, &id, &why))
		return; /* reported at the section */
	if (section == SCHEMA_MEMBER && find_draft_member(&reading->config, id) == NULL)
		return; /* one member too many, likewise */
	if (schema_find_field(section, item->key) == NULL) {
		config_mistake(&reading->mistakes, item->line, item->section, quoted,
			       "there is no such key; allowed here are %s",
			       schema_list_keys(section, list, sizeof(list)));
		return;
	}
	const struct scan_item *first = find_item(&reading->scan, index, item->section, item->key);
	if (first != NULL) {
		config_mistake(&reading->mistakes, item->line, item->section, quoted,
			       "the key was given in line %u already; allowed is once", first->line);
		return;
	}
	item->dropped = malformed;
}

static void check_names(struct reading *reading)
{
	/* More items than any valid file has: looking for each one's predecessor would take quadratic time. */
	const size_t items_max = 512;

	for (size_t i = 0; i < reading->scan.n_items; i++) {
		if (i >= items_max)
			reading->scan.items[i].dropped = true;
		else if (reading->scan.items[i].key == NULL)
			check_section(reading, i);
		else
			check_key(reading, i);
	}
	if (reading->scan.n_items > items_max)
		config_mistake(&reading->mistakes, reading->scan.items[items_max].line, NULL, NULL,
			       "the file has more than %zu sections and keys", items_max);
}

/* Second step: values ----------------------------------------------------------------------------------- */

/* iniparser prints its complaints to stderr by itself; whatever it dislikes shows in what it returns. */
static int ignore_complaint(const char *format, ...)
{
	(void)format;
	return 0;
}

/* Hands iniparser exactly the bytes that were scanned, not the file again, which may have changed meanwhile. */
static dictionary *load(const char *text, size_t len)
{
	char path[64];
	dictionary *loaded = NULL;
	size_t done = 0;

	raft_assert(text != NULL || len == 0);
	int fd = memfd_create("raft.conf", MFD_CLOEXEC);
	if (fd < 0)
		return NULL;
	while (done < len) {
		ssize_t n = write(fd, text + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done == len) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		iniparser_set_error_callback(ignore_complaint);
		loaded = iniparser_load(path);
		iniparser_set_error_callback(NULL);
	}
	(void)close(fd); /* memory only */
	return loaded;
}

static void set_value(struct reading *reading, struct scan_item *item)
{
	enum schema_section section = SCHEMA_CLUSTER;
	uint64_t id = 0;
	const char *no_why;
	char name[128], why[SCHEMA_WHY_MAX];

	bool known = schema_find_section(item->section, &section, &id, &no_why);
	raft_assert(known && item->value != NULL);
	int len = snprintf(name, sizeof(name), "%s:%s", item->section, item->key);
	raft_assert(len > 0 && (size_t)len < sizeof(name));
	const char *value = iniparser_getstring(reading->dictionary, name, NULL);
	if (value == NULL || strcmp(value, item->value) != 0) {
		config_mistake(
			&reading->mistakes, item->line, item->section, item->key,
			"iniparser reads this value differently; write it in double quotes, with no other quote in it");
		return;
	}
	struct config_member *member = section == SCHEMA_MEMBER ? find_draft_member(&reading->config, id) : NULL;
	const struct schema_field *field = schema_find_field(section, item->key);
	raft_assert(field != NULL);
	if (schema_set(field, value, &reading->config, member, why))
		return;
	config_mistake(&reading->mistakes, item->line, item->section, item->key, "%s", why);
	item->dropped = true;
}

static void set_values(struct reading *reading)
{
	size_t len = 0;
	char *text = scan_text(&reading->scan, &len);

	reading->dictionary = text != NULL ? load(text, len) : NULL;
	free(text);
	if (reading->dictionary == NULL) {
		config_mistake(&reading->mistakes, 0, NULL, NULL,
			       "iniparser cannot load it: memory, or /proc, is missing");
		return;
	}
	for (size_t i = 0; i < reading->scan.n_items; i++) {
		struct scan_item *item = &reading->scan.items[i];
		if (item->key != NULL && !item->dropped)
			set_value(reading, item);
	}
}

/* Third step: what must be there, and what must fit together --------------------------------------------- */

static void check_present(struct reading *reading, const char *section, const char *key, const char *what)
{
	if (line_of(reading, section, key) == 0)
		config_mistake(&reading->mistakes, line_of(reading, section, NULL), section, key,
			       "the key is missing; wanted is %s", what);
}

static void set_data(struct reading *reading, struct config_member *member, const char *section)
{
	const char *root = DATA_ROOT_DEFAULT;
	const struct scan_item *item = find_item(&reading->scan, reading->scan.n_items, "raft", "data_root");

	if (line_of(reading, section, "data") != 0)
		return;
	if (item != NULL && item->value != NULL)
		root = item->value;
	int len = snprintf(member->data, sizeof(member->data), "%s/%llu", strcmp(root, "/") == 0 ? "" : root,
			   (unsigned long long)member->id);
	/* A line holds less than CONFIG_PATH_MAX bytes. */
	raft_assert(len > 0 && (size_t)len < sizeof(member->data));
}

/* The value of [raft] for a member that has none of its own. */
static void set_metrics(struct reading *reading, struct config_member *member, const char *section)
{
	const struct scan_item *item = find_item(&reading->scan, reading->scan.n_items, "raft", "metrics_listen");
	const char *why = NULL;
	char quoted[CONFIG_QUOTED_MAX];

	if (line_of(reading, section, "metrics_listen") != 0 || item == NULL || item->value == NULL || item->dropped)
		return;
	if (config_parse_listen(item->value, member->id, &member->metrics, &why))
		return;
	(void)config_quote(item->value, quoted);
	config_mistake(&reading->mistakes, item->line, "raft", "metrics_listen", "'%s', for member %llu: %s", quoted,
		       (unsigned long long)member->id, why);
}

static void check_members(struct reading *reading)
{
	char section[32];

	if (reading->config.n_members == 0)
		config_mistake(&reading->mistakes, 0, NULL, NULL,
			       "there is no member; wanted are 1 to %u sections [member N], each with peer and client",
			       RAFT_MEMBERS_MAX);
	for (unsigned i = 0; i < reading->config.n_members; i++) {
		struct config_member *member = &reading->config.members[i];
		(void)snprintf(section, sizeof(section), "member %llu", (unsigned long long)member->id);
		check_present(reading, section, "peer",
			      "an endpoint like tcp://host:7401, where the other members reach it");
		check_present(reading, section, "client", "an endpoint like tcp://host:7501, where bridges reach it");
		set_data(reading, member, section);
		set_metrics(reading, member, section);
	}
}

/* The k-th endpoint of all: peer and client of member 0, of member 1, ... */
static const char *endpoint_at(const struct config *config, unsigned k)
{
	raft_assert(k / 2 < config->n_members);
	return k % 2 == 0 ? config->members[k / 2].peer : config->members[k / 2].client;
}

static void check_endpoints(struct reading *reading)
{
	static const char *const keys[] = {"peer", "client"};
	char here[CONFIG_ENDPOINT_MAX + 64], there[CONFIG_ENDPOINT_MAX + 64], section[32], first[32];
	const struct config *config = &reading->config;

	for (unsigned k = 0; k < 2 * config->n_members; k++) {
		if (endpoint_at(config, k)[0] == '\0')
			continue; /* missing or malformed, and reported as that */
		config_endpoint_normal(endpoint_at(config, k), here);
		for (unsigned j = 0; j < k; j++) {
			config_endpoint_normal(endpoint_at(config, j), there);
			if (strcmp(here, there) != 0)
				continue;
			(void)snprintf(section, sizeof(section), "member %llu",
				       (unsigned long long)config->members[k / 2].id);
			(void)snprintf(first, sizeof(first), "member %llu",
				       (unsigned long long)config->members[j / 2].id);
			config_mistake(&reading->mistakes, line_of(reading, section, keys[k % 2]), section, keys[k % 2],
				       "'%s' is already %s of [%s] in line %u; every endpoint must be different",
				       endpoint_at(config, k), keys[j % 2], first,
				       line_of(reading, first, keys[j % 2]));
			break;
		}
	}
}

/* larger must exceed smaller; the mistake is shown at whichever was given. */
static void check_exceeds(struct reading *reading, const char *larger, uint32_t larger_ms, const char *smaller,
			  uint32_t smaller_ms)
{
	const struct scan_item *above = find_item(&reading->scan, reading->scan.n_items, "raft", larger);
	const struct scan_item *below = find_item(&reading->scan, reading->scan.n_items, "raft", smaller);

	if (larger_ms > smaller_ms)
		return;
	/* What was refused left its default behind, which nobody asked for. */
	if ((above != NULL && above->dropped) || (below != NULL && below->dropped))
		return;
	raft_assert(above != NULL || below != NULL); /* the defaults fit together */
	if (above != NULL)
		config_mistake(&reading->mistakes, above->line, "raft", larger, "%u is not more than %s, which is %u%s",
			       larger_ms, smaller, smaller_ms, below == NULL ? " by default" : "");
	else
		config_mistake(&reading->mistakes, below->line, "raft", smaller,
			       "%u is not less than %s, which is %u by default", smaller_ms, larger, larger_ms);
}

/* A lease that ends before the next heartbeat renews it is none. */
static void check_lease(struct reading *reading)
{
	const struct config *config = &reading->config;
	const struct scan_item *mode = find_item(&reading->scan, reading->scan.n_items, "raft", "read_mode");
	uint64_t lease_ms = (uint64_t)config->election_timeout_min_ms * (100 - config->clock_drift_percent) /
			    (100 + config->clock_drift_percent);

	if (config->read_mode != CONFIG_READ_LEASE || lease_ms > config->heartbeat_ms ||
	    config->election_timeout_min_ms <= config->heartbeat_ms) /* which is reported as that */
		return;
	raft_assert(mode != NULL); /* it is not the default */
	config_mistake(
		&reading->mistakes, mode->line, "raft", "read_mode",
		"with clock_drift_percent = %u a lease lasts %u ms of the %u of election_timeout_min_ms, which must be "
		"more than heartbeat_ms, %u",
		config->clock_drift_percent, (uint32_t)lease_ms, config->election_timeout_min_ms, config->heartbeat_ms);
}

static void check_relations(struct reading *reading)
{
	const struct config *config = &reading->config;

	check_exceeds(reading, "election_timeout_min_ms", config->election_timeout_min_ms, "heartbeat_ms",
		      config->heartbeat_ms);
	check_exceeds(reading, "election_timeout_max_ms", config->election_timeout_max_ms, "election_timeout_min_ms",
		      config->election_timeout_min_ms);
	check_lease(reading);
}

/* ------------------------------------------------------------------------------------------------------ */

static int compare_members(const void *a, const void *b)
{
	const struct config_member *left = a, *right = b;

	raft_assert(left->id != 0 && right->id != 0);
	return (left->id > right->id) - (left->id < right->id);
}

int config_read(const char *path, struct config *ret_config, void (*report)(void *arg, const char *line), void *arg)
{
	raft_assert(path != NULL && ret_config != NULL && report != NULL);
	struct config_mistakes failed = {.path = path, .report = report, .arg = arg};
	struct reading *reading = calloc(1, sizeof(*reading)); /* some 70 KiB: too much for a small thread's stack */

	if (reading == NULL) {
		config_mistake(&failed, 0, NULL, NULL, "not enough memory to read it");
		return failed.count;
	}
	reading->mistakes = failed;
	schema_set_defaults(&reading->config);
	if (scan_file(&reading->mistakes, &reading->scan) == 0) {
		check_names(reading);
		set_values(reading);
		check_present(reading, "cluster", "name", "the name of the cluster, the same for all members");
		check_members(reading);
		check_endpoints(reading);
		check_relations(reading);
	}
	int count = reading->mistakes.count;
	if (count == 0) {
		raft_assert(reading->config.n_members >= 1 && reading->config.n_members <= RAFT_MEMBERS_MAX);
		qsort(reading->config.members, reading->config.n_members, sizeof(reading->config.members[0]),
		      compare_members);
		*ret_config = reading->config;
	}
	scan_fini(&reading->scan);
	if (reading->dictionary != NULL)
		iniparser_freedict(reading->dictionary);
	free(reading);
	return count;
}

const struct config_member *config_find_member(const struct config *config, uint64_t id)
{
	raft_assert(config != NULL && config->n_members <= RAFT_MEMBERS_MAX);
	for (unsigned i = 0; i < config->n_members; i++) {
		if (config->members[i].id == id)
			return &config->members[i];
	}
	return NULL;
}
