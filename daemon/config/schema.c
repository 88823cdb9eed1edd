/*
 * See schema.h. A new key is one line in the table, its default in schema_set_defaults, and its line in config.h.
 */
#include "daemon/config/schema.h"

#include "daemon/assert.h"
#include "daemon/config/mistake.h"
#include "daemon/config/parse.h"

#include <stdio.h>
#include <string.h>

enum field_kind {
	FIELD_NAME,
	FIELD_ENDPOINT,
	FIELD_PATH,
	FIELD_SOCKET_PATH,
	FIELD_NUMBER, /* uint32_t */
	FIELD_OCTAL,  /* uint32_t */
	FIELD_SIZE32,
	FIELD_SIZE64,
	FIELD_LEVEL,
	FIELD_LISTEN,
	FIELD_READ_MODE,
};

struct schema_field {
	enum schema_section section;
	const char *key;
	enum field_kind kind;
	size_t offset; /* in struct config, of [member N] in struct config_member */
	uint64_t min, max;
	const char *allowed; /* NULL: the parser of the kind says what is wrong */
};

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIMEOUT_MS_MAX 600000 /* longer than any election needs, short enough to be no typing error */
#define SEGMENT_MULTIPLE 4096u

#define IN_CONFIG(member) offsetof(struct config, member)
#define IN_MEMBER(member) offsetof(struct config_member, member)

static const struct schema_field fields[] = {
	{SCHEMA_CLUSTER, "name", FIELD_NAME, IN_CONFIG(cluster_name), 0, 0, "1 to 64 letters, digits, '-', '_' or '.'"},
	{SCHEMA_MEMBER, "peer", FIELD_ENDPOINT, IN_MEMBER(peer), 0, 0, NULL},
	{SCHEMA_MEMBER, "client", FIELD_ENDPOINT, IN_MEMBER(client), 0, 0, NULL},
	{SCHEMA_MEMBER, "data", FIELD_PATH, IN_MEMBER(data), 0, CONFIG_PATH_MAX, NULL},
	{SCHEMA_MEMBER, "metrics_listen", FIELD_LISTEN, IN_MEMBER(metrics), 0, 0, NULL},
	{SCHEMA_RAFT, "data_root", FIELD_PATH, 0, 0, CONFIG_PATH_MAX - 20, NULL}, /* room for "/" and an id */
	{SCHEMA_RAFT, "heartbeat_ms", FIELD_NUMBER, IN_CONFIG(heartbeat_ms), 1, 10000,
	 "a whole number from 1 to 10000 (milliseconds)"},
	{SCHEMA_RAFT, "election_timeout_min_ms", FIELD_NUMBER, IN_CONFIG(election_timeout_min_ms), 2, TIMEOUT_MS_MAX,
	 "a whole number from 2 to 600000 (milliseconds), more than heartbeat_ms"},
	{SCHEMA_RAFT, "election_timeout_max_ms", FIELD_NUMBER, IN_CONFIG(election_timeout_max_ms), 3, TIMEOUT_MS_MAX,
	 "a whole number from 3 to 600000 (milliseconds), more than election_timeout_min_ms"},
	{SCHEMA_RAFT, "read_mode", FIELD_READ_MODE, IN_CONFIG(read_mode), 0, 0, "index or lease"},
	{SCHEMA_RAFT, "clock_drift_percent", FIELD_NUMBER, IN_CONFIG(clock_drift_percent), 1, 25,
	 "a whole number from 1 to 25 (percent)"},
	{SCHEMA_RAFT, "segment_size", FIELD_SIZE32, IN_CONFIG(segment_size), 4 * MIB, GIB,
	 "a size from 4MiB to 1GiB, a multiple of 4096 bytes, written like 4194304, 4096KiB, 16MiB or 1GiB"},
	{SCHEMA_RAFT, "log_cache_size", FIELD_SIZE64, IN_CONFIG(log_cache_size), MIB, 64 * GIB,
	 "a size from 1MiB to 64GiB, written like 1048576, 1024KiB, 32MiB or 1GiB"},
	{SCHEMA_RAFT, "snapshot_log_size", FIELD_SIZE64, IN_CONFIG(snapshot_log_size), 64 * KIB, 64 * GIB,
	 "a size from 64KiB to 64GiB, written like 65536, 64KiB, 32MiB or 1GiB"},
	{SCHEMA_RAFT, "snapshot_log_percent", FIELD_NUMBER, IN_CONFIG(snapshot_log_percent), 10, 10000,
	 "a whole number from 10 to 10000 (percent)"},
	{SCHEMA_RAFT, "log_level", FIELD_LEVEL, IN_CONFIG(log_level), 0, 0, "error, warning, notice, info or debug"},
	{SCHEMA_RAFT, "metrics_listen", FIELD_LISTEN, 0, 0, 0, NULL}, /* config.c gives it to the members */
	{SCHEMA_BRIDGE, "socket", FIELD_SOCKET_PATH, IN_CONFIG(bridge_socket), 0, CONFIG_SOCKET_PATH_MAX, NULL},
	{SCHEMA_BRIDGE, "socket_mode", FIELD_OCTAL, IN_CONFIG(bridge_socket_mode), 0, 0777,
	 "an octal number from 0 to 0777, like 0660"},
	{SCHEMA_BRIDGE, "request_timeout_ms", FIELD_NUMBER, IN_CONFIG(request_timeout_ms), 10, 3600000,
	 "a whole number from 10 to 3600000 (milliseconds)"},
	{SCHEMA_BRIDGE, "connections_max", FIELD_NUMBER, IN_CONFIG(connections_max), 1, 1000000,
	 "a whole number from 1 to 1000000"},
	{SCHEMA_BRIDGE, "metrics_listen", FIELD_LISTEN, IN_CONFIG(bridge_metrics), 0, 0, NULL},
};

bool schema_find_section(const char *name, enum schema_section *ret_section, uint64_t *ret_id, const char **ret_why)
{
	raft_assert(name != NULL && ret_section != NULL && ret_id != NULL && ret_why != NULL);
	if (strcmp(name, "cluster") == 0) {
		*ret_section = SCHEMA_CLUSTER;
	} else if (strcmp(name, "raft") == 0) {
		*ret_section = SCHEMA_RAFT;
	} else if (strcmp(name, "bridge") == 0) {
		*ret_section = SCHEMA_BRIDGE;
	} else if (strncmp(name, "member", 6) == 0) {
		if (name[6] != ' ' || !config_parse_u64(name + 7, 1, INT64_MAX, ret_id)) {
			*ret_why = "a member's section is [member N], one blank, N from 1 to 9223372036854775807 "
				   "without sign and leading zeros";
			return false;
		}
		*ret_section = SCHEMA_MEMBER;
	} else {
		*ret_why = "there is no such section; allowed are [cluster], [member N], [raft], [bridge], in small "
			   "letters and without blanks inside the brackets";
		return false;
	}
	return true;
}

const struct schema_field *schema_find_field(enum schema_section section, const char *key)
{
	raft_assert(key != NULL);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (fields[i].section == section && strcmp(fields[i].key, key) == 0)
			return &fields[i];
	}
	return NULL;
}

const char *schema_list_keys(enum schema_section section, char *ret, size_t ret_size)
{
	size_t len = 0;

	raft_assert(ret != NULL && ret_size > 0);
	ret[0] = '\0';
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (fields[i].section != section)
			continue;
		int n = snprintf(ret + len, ret_size - len, "%s%s", len > 0 ? ", " : "", fields[i].key);
		raft_assert(n > 0 && (size_t)n < ret_size - len);
		len += (size_t)n;
	}
	return ret;
}

static bool set_number(const struct schema_field *field, const char *value, void *target)
{
	uint64_t number;
	uint32_t small;
	bool valid;

	raft_assert(field->min <= field->max);
	if (field->kind == FIELD_OCTAL)
		return config_parse_octal(value, (uint32_t)field->max, target);
	if (field->kind == FIELD_NUMBER)
		valid = config_parse_u64(value, field->min, field->max, &number);
	else
		valid = config_parse_size(value, field->min, field->max, &number);
	if (!valid)
		return false;
	if (field->kind == FIELD_SIZE64) {
		memcpy(target, &number, sizeof(number));
		return true;
	}
	raft_assert(number <= UINT32_MAX);
	small = (uint32_t)number;
	if (field->kind == FIELD_SIZE32 && small % SEGMENT_MULTIPLE != 0)
		return false;
	memcpy(target, &small, sizeof(small));
	return true;
}

static bool set_level(const char *value, enum config_log_level *ret_level)
{
	static const struct {
		const char *name;
		enum config_log_level level;
	} levels[] = {{"error", CONFIG_LOG_ERROR},
		      {"warning", CONFIG_LOG_WARNING},
		      {"notice", CONFIG_LOG_NOTICE},
		      {"info", CONFIG_LOG_INFO},
		      {"debug", CONFIG_LOG_DEBUG}};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(levels[i].name, value) == 0) {
			*ret_level = levels[i].level;
			return true;
		}
	}
	return false;
}

static bool set_read_mode(const char *value, enum config_read_mode *ret_mode)
{
	bool lease = strcmp(value, "lease") == 0;

	if (!lease && strcmp(value, "index") != 0)
		return false;
	*ret_mode = lease ? CONFIG_READ_LEASE : CONFIG_READ_INDEX;
	return true;
}

/* The default root and every member's directory are put together in config.c; data_root itself is only checked here. */
static bool set_path(const struct schema_field *field, const char *value, char *target, const char **ret_why)
{
	if (!config_parse_path(value, (uint32_t)field->max, ret_why))
		return false;
	if (field->kind == FIELD_SOCKET_PATH && value[1] == '\0') {
		*ret_why = "'/' is a directory, not the path of a socket";
		return false;
	}
	if (field->section != SCHEMA_RAFT)
		memcpy(target, value, strlen(value) + 1);
	return true;
}

/* A bridge has no number to put for %i. In [raft] it depends on the member: config.c checks the value for each. */
static bool set_listen(const struct schema_field *field, const char *value, const struct config_member *member,
		       struct config_listen *target, const char **ret_why)
{
	uint64_t id = field->section == SCHEMA_MEMBER ? member->id : 0;

	return field->section == SCHEMA_RAFT || config_parse_listen(value, id, target, ret_why);
}

bool schema_set(const struct schema_field *field, const char *value, struct config *config,
		struct config_member *member, char ret_why[SCHEMA_WHY_MAX])
{
	raft_assert(field != NULL && value != NULL && config != NULL);
	raft_assert(field->section != SCHEMA_MEMBER || member != NULL);
	void *target = (char *)(field->section == SCHEMA_MEMBER ? (void *)member : (void *)config) + field->offset;
	const char *why = NULL;
	char quoted[CONFIG_QUOTED_MAX];
	bool valid = false;

	switch (field->kind) {
	case FIELD_NAME:
		valid = config_parse_name(value);
		if (valid)
			memcpy(target, value, strlen(value) + 1);
		break;
	case FIELD_ENDPOINT:
		valid = config_parse_endpoint(value, &why);
		if (valid)
			memcpy(target, value, strlen(value) + 1);
		break;
	case FIELD_PATH:
	case FIELD_SOCKET_PATH:
		valid = set_path(field, value, target, &why);
		break;
	case FIELD_NUMBER:
	case FIELD_OCTAL:
	case FIELD_SIZE32:
	case FIELD_SIZE64:
		valid = set_number(field, value, target);
		break;
	case FIELD_LEVEL:
		valid = set_level(value, target);
		break;
	case FIELD_LISTEN:
		valid = set_listen(field, value, member, target, &why);
		break;
	case FIELD_READ_MODE:
		valid = set_read_mode(value, target);
		break;
	}
	if (valid)
		return true;
	(void)config_quote(value, quoted);
	if (why != NULL)
		(void)snprintf(ret_why, SCHEMA_WHY_MAX, "'%s': %s", quoted, why);
	else
		(void)snprintf(ret_why, SCHEMA_WHY_MAX, "'%s' is not allowed; allowed is %s", quoted, field->allowed);
	return false;
}

/* They have no place of their own: the members' keys follow from them. */
static bool is_derived(const struct schema_field *field)
{
	return field->section == SCHEMA_RAFT && (field->kind == FIELD_PATH || field->kind == FIELD_LISTEN);
}

static bool is_same_listen(const struct config_listen *a, const struct config_listen *b)
{
	return strcmp(a->path, b->path) == 0 && strcmp(a->host, b->host) == 0 && a->port == b->port;
}

static bool is_same(const struct schema_field *field, const void *a, const void *b)
{
	switch (field->kind) {
	case FIELD_NUMBER:
	case FIELD_OCTAL:
	case FIELD_SIZE32:
		return memcmp(a, b, sizeof(uint32_t)) == 0;
	case FIELD_SIZE64:
		return memcmp(a, b, sizeof(uint64_t)) == 0;
	case FIELD_LEVEL:
		return memcmp(a, b, sizeof(enum config_log_level)) == 0;
	case FIELD_READ_MODE:
		return memcmp(a, b, sizeof(enum config_read_mode)) == 0;
	case FIELD_LISTEN:
		return is_same_listen(a, b);
	case FIELD_NAME:
	case FIELD_ENDPOINT:
	case FIELD_PATH:
	case FIELD_SOCKET_PATH:
		break;
	}
	return strcmp(a, b) == 0;
}

void schema_compare(enum schema_section section, const void *a, const void *b,
		    void (*report)(void *arg, const char *key), void *arg)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		const struct schema_field *field = &fields[i];
		if (field->section == section && !is_derived(field) &&
		    !is_same(field, (const char *)a + field->offset, (const char *)b + field->offset))
			report(arg, field->key);
	}
}

void schema_set_defaults(struct config *config)
{
	static const char socket[] = "/run/raft/kv.sock";

	raft_assert(config != NULL);
	_Static_assert(sizeof(socket) - 1 <= CONFIG_SOCKET_PATH_MAX, "the default must be allowed");
	memset(config, 0, sizeof(*config));
	config->heartbeat_ms = 50;
	config->election_timeout_min_ms = 150;
	config->election_timeout_max_ms = 300;
	config->read_mode = CONFIG_READ_INDEX;
	config->clock_drift_percent = 10;
	config->segment_size = 16 * MIB;
	config->log_cache_size = 32 * MIB;
	config->snapshot_log_size = 32 * MIB;
	config->snapshot_log_percent = 100;
	config->log_level = CONFIG_LOG_INFO;
	memcpy(config->bridge_socket, socket, sizeof(socket));
	config->bridge_socket_mode = 0660;
	config->request_timeout_ms = 5000;
	config->connections_max = 16384;
}
