/*
 * raftctl health: is every member, or the one that --id names, well by its own account? The same checks as /healthz and /readyz,
 * asked over the client endpoint: it works whether metrics are served or not.
 */
#include "raftctl.h"
#include "raftctl_json.h"
#include "raftctl_survey.h"

#include <inttypes.h>
#include <stdio.h>

static bool is_well(const struct survey *survey, unsigned k, uint64_t checks)
{
	return survey->reachable[k] && (survey->members[k].failed_checks & checks) == 0;
}

static void print_text(const struct survey *survey, uint64_t checks, const char *well)
{
	for (unsigned k = 0; k < survey->links.n; k++) {
		const struct config_member *member = survey->links.links[k].member;
		if (!survey->reachable[k]) {
			printf("member %" PRIu64 ": unreachable at %s\n", member->id, member->client);
			continue;
		}
		printf("member %" PRIu64 ": %s%s\n", member->id, is_well(survey, k, checks) ? "" : "not ", well);
		for (uint64_t check = 1; check <= checks; check <<= 1) {
			bool failed = (survey->members[k].failed_checks & check) != 0;
			if ((checks & check) != 0)
				printf("  [%c]%s\n", failed ? '-' : '+', kv_check_text(check, failed));
		}
	}
}

static void print_json(const struct survey *survey, uint64_t checks, const char *well)
{
	struct json json = {.file = stdout};
	json_begin_object(&json, NULL);
	json_begin_array(&json, "members");
	for (unsigned k = 0; k < survey->links.n; k++) {
		uint64_t failed = survey->members[k].failed_checks & checks;
		json_begin_object(&json, NULL);
		json_u64(&json, "id", survey->links.links[k].member->id);
		json_bool(&json, "reachable", survey->reachable[k]);
		json_bool(&json, well, is_well(survey, k, checks));
		json_begin_array(&json, "failed");
		for (uint64_t check = 1; check <= checks; check <<= 1)
			if ((failed & check) != 0)
				json_string(&json, NULL, kv_check_text(check, true));
		json_end_array(&json);
		json_end_object(&json);
	}
	json_end_array(&json);
	json_end_object(&json);
	(void)putchar('\n');
}

int ctl_health(struct ctl *ctl)
{
	struct survey survey;
	uint64_t checks = ctl->options.live ? KV_CHECKS_LIVE : KV_CHECKS_READY;
	const char *well = ctl->options.live ? "live" : "ready";
	if (ctl->options.live && ctl->options.ready)
		return ctl_fail(CTL_USAGE, "--live and --ready exclude each other");
	int r = survey_take(ctl, &survey);
	int code = CTL_FAILED; /* and survey_take has said why */
	if (r == 0) {
		if (ctl->options.json)
			print_json(&survey, checks, well);
		else
			print_text(&survey, checks, well);
		code = survey_reachable(&survey) == 0 ? CTL_UNREACHABLE : CTL_OK;
		for (unsigned k = 0; k < survey.links.n && code == CTL_OK; k++)
			code = is_well(&survey, k, checks) ? CTL_OK : CTL_NEGATIVE;
	}
	survey_close(&survey);
	return code;
}
