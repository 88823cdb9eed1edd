/*
 * raftctl status: asks every member for itself and puts the answers side by side, as a table or as one JSON object.
 */
#include "raftctl.h"
#include "raftctl_json.h"
#include "raftctl_survey.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum copies { COPIES_AGREE, COPIES_INCOMPARABLE, COPIES_DIFFER };

/* What follows from it -------------------------------------------------------------------------------- */

/* Members at the same entry must have the same hash. Those at different ones cannot be compared. */
static enum copies compare_copies(const struct survey *survey)
{
	enum copies result = COPIES_AGREE;
	for (unsigned a = 0; a < survey->links.n; a++) {
		for (unsigned b = a + 1; b < survey->links.n; b++) {
			const struct kv_member_status *x = &survey->members[a];
			const struct kv_member_status *y = &survey->members[b];
			if (!survey->reachable[a] || !survey->reachable[b])
				continue;
			if (x->applied == y->applied && x->state_hash != y->state_hash)
				return COPIES_DIFFER;
			if (x->applied != y->applied)
				result = COPIES_INCOMPARABLE;
		}
	}
	return result;
}

/* Versions -------------------------------------------------------------------------------------------- */

#define TEXT_SIZE 32u

/* Members before 0.2 tell neither; they know level 1. */
static uint64_t level_of(const struct kv_member_status *status)
{
	return status->level != 0 ? status->level : RAFT_LEVEL_MIN;
}

static uint64_t known_level_of(const struct kv_member_status *status)
{
	return status->level_max != 0 ? status->level_max : RAFT_LEVEL_MIN;
}

static void format_version(char text[TEXT_SIZE], uint64_t version)
{
	if (version == 0)
		(void)snprintf(text, TEXT_SIZE, "0.1");
	else
		(void)snprintf(text, TEXT_SIZE, "%u.%u.%u", (unsigned)(version >> 32 & UINT16_MAX),
			       (unsigned)(version >> 16 & UINT16_MAX), (unsigned)(version & UINT16_MAX));
}

/* Who stands in the way of a higher feature level, when somebody knows one. */
static void print_level(const struct survey *survey, const struct kv_member_status *leader)
{
	uint64_t known = 0;
	uint64_t level = leader != NULL ? level_of(leader) : 0;
	if (leader == NULL)
		return;
	printf("feature level %" PRIu64, level);
	for (unsigned k = 0; k < survey->links.n; k++)
		if (survey->reachable[k] && known_level_of(&survey->members[k]) > known)
			known = known_level_of(&survey->members[k]);
	const char *separator = known > level ? "; higher when newer versions run on member" : NULL;
	for (unsigned k = 0; k < survey->links.n && separator != NULL; k++) {
		if (survey->reachable[k] && known_level_of(&survey->members[k]) > level)
			continue;
		printf("%s %" PRIu64, separator, survey->links.links[k].member->id);
		separator = ",";
	}
	printf("\n");
}

/* As JSON --------------------------------------------------------------------------------------------- */

static uint64_t lag(const struct kv_member_status *status, const struct kv_member_status *leader)
{
	return leader->commit > status->applied ? leader->commit - status->applied : 0;
}

static void json_member(struct json *json, const struct config_member *member, const struct kv_member_status *status,
			const struct kv_member_status *leader)
{
	bool reachable = status != NULL;
	json_begin_object(json, NULL);
	json_u64(json, "id", member->id);
	json_bool(json, "reachable", reachable);
	json_string(json, "client", member->client);
	if (!reachable) {
		json_null(json, "role");
		json_end_object(json);
		return;
	}
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{"pid", status->pid},
		{"term", status->term},
		{"commit", status->commit},
		{"applied", status->applied},
		{"first", status->first},
		{"last", status->last},
		{"durable", status->durable},
		{"rss_bytes", status->rss_bytes},
		{"keys", status->keys},
		{"store_bytes", status->store_bytes},
		{"sessions", status->sessions},
		{"flushes", status->flushes},
		{"flushed_entries", status->flushed_entries},
		{"flushed_bytes", status->flushed_bytes},
		{"sync_us_total", status->sync_us_total},
		{"sync_us_max", status->sync_us_max},
		{"cpu_us", status->cpu_us},
		{"proposed", status->entries_proposed},
		{"reads", status->reads},
		{"elections", status->elections},
		{"feature_level", level_of(status)},
		{"feature_level_known", known_level_of(status)},
		{"voters", status->voters},
		{"disk_bytes", status->disk_bytes},
		{"log_bytes", status->log_bytes},
		{"snapshot_index", status->snapshot_index},
		{"snapshot_bytes", status->snapshot_bytes},
		{"lease_us", status->lease_us},
		{"leased_reads", status->leased_reads},
	};
	char version[TEXT_SIZE];
	format_version(version, status->version);
	json_string(json, "version", version);
	json_string(json, "role", survey_role_name(status->role));
	if (status->leader == 0)
		json_null(json, "follows");
	else
		json_u64(json, "follows", status->leader);
	if (leader == NULL)
		json_null(json, "lag");
	else
		json_u64(json, "lag", lag(status, leader));
	json_string(json, "read_mode", status->lease != 0 ? "lease" : "index");
	json_hex(json, "incarnation", status->incarnation);
	json_hex(json, "state_hash", status->state_hash);
	for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
		json_u64(json, numbers[k].name, numbers[k].value);
	json_milli(json, "uptime_seconds", status->uptime_ms);
	json_bool(json, "ready", status->failed_checks == 0);
	json_begin_array(json, "alarms");
	for (uint64_t alarm = 1; alarm != 0 && alarm <= status->alarms; alarm <<= 1)
		if ((status->alarms & alarm) != 0)
			json_string(json, NULL, kv_alarm_name(alarm));
	json_end_array(json);
	json_end_object(json);
}

static void print_json(const struct survey *survey)
{
	struct json json = {.file = stdout};
	const struct kv_member_status *leader = survey_leader(survey);
	enum copies copies = compare_copies(survey);
	json_begin_object(&json, NULL);
	json_string(&json, "cluster", survey->config->cluster_name);
	if (leader == NULL)
		json_null(&json, "leader");
	else
		json_u64(&json, "leader", leader->id);
	json_u64(&json, "term", survey_term(survey));
	if (leader == NULL)
		json_null(&json, "feature_level");
	else
		json_u64(&json, "feature_level", level_of(leader));
	if (copies == COPIES_INCOMPARABLE)
		json_null(&json, "copies_agree");
	else
		json_bool(&json, "copies_agree", copies == COPIES_AGREE);
	json_begin_array(&json, "members");
	for (unsigned k = 0; k < survey->links.n; k++)
		json_member(&json, survey->links.links[k].member, survey->reachable[k] ? &survey->members[k] : NULL,
			    leader);
	json_end_array(&json);
	json_end_object(&json);
	(void)putchar('\n');
}

/* As a table ------------------------------------------------------------------------------------------ */

static void format_bytes(char text[TEXT_SIZE], uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
		value /= 1024;
		unit++;
	}
	(void)snprintf(text, TEXT_SIZE, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

static void format_time(char text[TEXT_SIZE], uint64_t ms)
{
	uint64_t s = ms / 1000u;
	if (s < 60)
		(void)snprintf(text, TEXT_SIZE, "%" PRIu64 "s", s);
	else if (s < 3600)
		(void)snprintf(text, TEXT_SIZE, "%" PRIu64 "m%02us", s / 60, (unsigned)(s % 60));
	else if (s < 86400)
		(void)snprintf(text, TEXT_SIZE, "%" PRIu64 "h%02um", s / 3600, (unsigned)(s % 3600 / 60));
	else
		(void)snprintf(text, TEXT_SIZE, "%" PRIu64 "d%02uh", s / 86400, (unsigned)(s % 86400 / 3600));
}

static void print_member(const struct kv_member_status *status, const struct kv_member_status *leader)
{
	char rss[TEXT_SIZE];
	char disk[TEXT_SIZE];
	char uptime[TEXT_SIZE];
	char behind[TEXT_SIZE] = "-";
	char version[TEXT_SIZE];
	format_version(version, status->version);
	format_bytes(rss, status->rss_bytes);
	format_bytes(disk, status->disk_bytes);
	format_time(uptime, status->uptime_ms);
	if (leader != NULL)
		(void)snprintf(behind, sizeof behind, "%" PRIu64, lag(status, leader));
	printf("%6" PRIu64 "  %-13s %8s %6" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8s %10" PRIu64
	       " %10s %10s %8s %8" PRIu64 "  %016" PRIx64 "\n",
	       status->id, survey_role_name(status->role), version, status->term, status->snapshot_index,
	       status->commit, status->applied, behind, status->keys, disk, rss, uptime, status->pid,
	       status->state_hash);
}

/* What an operator should look at, if there is anything. */
static void print_warnings(const struct survey *survey)
{
	for (unsigned k = 0; k < survey->links.n; k++) {
		const struct kv_member_status *status = &survey->members[k];
		for (uint64_t bit = 1; survey->reachable[k] && bit <= KV_CHECKS_READY; bit <<= 1) {
			if ((status->failed_checks & bit) != 0)
				printf("\nmember %" PRIu64 " is not ready: %s", status->id, kv_check_text(bit, true));
			if ((status->alarms & bit) != 0)
				printf("\nmember %" PRIu64 ": ALARM %s", status->id, kv_alarm_name(bit));
		}
	}
}

/* Whether reads need a round now, where leases are configured. */
static void print_lease(const struct kv_member_status *leader)
{
	if (leader->lease == 0)
		return;
	if (leader->lease_us > 0)
		printf("reads by lease, good for %" PRIu64 " ms unless renewed\n", leader->lease_us / 1000u);
	else
		printf("reads by lease are configured, but the leader has none now: too few voters promise it one, or a "
		       "hand-over was tried in this term\n");
}

static void print_table(const struct survey *survey)
{
	const struct kv_member_status *leader = survey_leader(survey);
	printf("cluster %s: ", survey->config->cluster_name);
	if (leader != NULL)
		printf("leader %" PRIu64 " in term %" PRIu64, leader->id, leader->term);
	else
		printf("no leader in term %" PRIu64, survey_term(survey));
	printf(", %u of %u members reachable\n", survey_reachable(survey), survey->links.n);
	print_level(survey, leader);
	printf("\n%6s  %-13s %8s %6s %10s %10s %10s %8s %10s %10s %10s %8s %8s  %s\n", "member", "role", "version",
	       "term", "snapshot", "commit", "applied", "lag", "keys", "disk", "rss", "uptime", "pid", "state");
	for (unsigned k = 0; k < survey->links.n; k++) {
		const struct config_member *member = survey->links.links[k].member;
		if (survey->reachable[k])
			print_member(&survey->members[k], leader);
		else
			printf("%6" PRIu64 "  unreachable at %s\n", member->id, member->client);
	}
	print_warnings(survey);
	if (leader != NULL)
		print_lease(leader);
	switch (compare_copies(survey)) {
	case COPIES_AGREE:
		if (survey_reachable(survey) > 1)
			printf("\nall copies agree\n");
		break;
	case COPIES_INCOMPARABLE:
		printf("\ncopies at the same entry agree; ask again when all have applied the same\n");
		break;
	case COPIES_DIFFER:
		printf("\nCOPIES DIFFER: members that applied the same entries have different states\n");
		break;
	}
}

int ctl_status(struct ctl *ctl)
{
	struct survey survey;
	int r = survey_take(ctl, &survey);
	if (r == 0 && ctl->options.json)
		print_json(&survey);
	else if (r == 0)
		print_table(&survey);
	int code = CTL_OK;
	if (r < 0)
		code = CTL_FAILED; /* and survey_take has said why */
	else if (survey_reachable(&survey) == 0)
		code = CTL_UNREACHABLE;
	else if ((ctl->options.id == 0 && survey_leader(&survey) == NULL) || compare_copies(&survey) == COPIES_DIFFER)
		code = CTL_NEGATIVE;
	survey_close(&survey);
	return code;
}
