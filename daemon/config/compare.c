/*
 * In what two configurations differ, key by key: for a process that reads its file again while it runs.
 */
#include "daemon/assert.h"
#include "daemon/config/config.h"
#include "daemon/config/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_SIZE 96u

struct comparison {
	void (*report)(void *arg, const char *name);
	void *arg;
	char section[NAME_MAX_SIZE];
};

static void report_key(void *arg, const char *key)
{
	const struct comparison *comparison = arg;
	char name[2 * NAME_MAX_SIZE];
	int n = snprintf(name, sizeof name, "[%s] %s", comparison->section, key);
	raft_assert(n > 0 && (size_t)n < sizeof name);
	comparison->report(comparison->arg, name);
}

static void set_section(struct comparison *comparison, const char *name, uint64_t id)
{
	if (id == 0)
		(void)snprintf(comparison->section, sizeof comparison->section, "%s", name);
	else
		(void)snprintf(comparison->section, sizeof comparison->section, "%s %" PRIu64, name, id);
}

static void compare_section(struct comparison *comparison, const char *name, const struct config *a,
			    const struct config *b)
{
	enum schema_section section;
	uint64_t id = 0;
	const char *why;
	bool known = schema_find_section(name, &section, &id, &why);
	raft_assert(known);
	set_section(comparison, name, 0);
	schema_compare(section, a, b, report_key, comparison);
}

static void report_member(struct comparison *comparison, uint64_t id)
{
	char name[2 * NAME_MAX_SIZE];
	set_section(comparison, "member", id);
	(void)snprintf(name, sizeof name, "[%s]", comparison->section);
	comparison->report(comparison->arg, name);
}

void config_compare(const struct config *a, const struct config *b, void (*report)(void *arg, const char *name),
		    void *arg)
{
	struct comparison comparison = {.report = report, .arg = arg};
	compare_section(&comparison, "cluster", a, b);
	for (unsigned k = 0; k < a->n_members; k++) {
		const struct config_member *other = config_find_member(b, a->members[k].id);
		set_section(&comparison, "member", a->members[k].id);
		if (other != NULL)
			schema_compare(SCHEMA_MEMBER, &a->members[k], other, report_key, &comparison);
		else
			report_member(&comparison, a->members[k].id);
	}
	for (unsigned k = 0; k < b->n_members; k++)
		if (config_find_member(a, b->members[k].id) == NULL)
			report_member(&comparison, b->members[k].id);
	compare_section(&comparison, "raft", a, b);
	compare_section(&comparison, "bridge", a, b);
}
