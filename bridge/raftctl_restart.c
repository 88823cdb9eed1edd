/*
 * raftctl restart --rolling: restarts the members that systemd runs on this host, one after another. Each one's turn comes
 * when the cluster can spare it, and is over when it follows the leader again and has applied what was committed; a leader
 * hands over when it is told to stop. The first thing that does not come in time ends it all: what has not been restarted goes on
 * as it is. What this must not know: when a member can be spared (rolling.h), what a restart does (the units).
 */
#include "raftctl.h"
#include "raftctl_link.h"
#include "raftctl_systemctl.h"
#include "rolling.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define UNIT_PREFIX "raft@"
#define UNIT_SUFFIX ".service"
#define UNITS_MAX 64u
#define LISTING_SIZE 16384u
#define SYSTEMCTL_US 10000000u
/* For each member, from the order to restart until it has caught up, unless --timeout says otherwise. */
#define MEMBER_US 120000000u
/* A healthy cluster shows it at once; one in the middle of an election needs a moment. */
#define FIRST_LOOK_US 10000000u
/* One round of questions to all members. */
#define ANSWER_US 500000u
#define PAUSE_US 50000u

struct restart {
	struct ctl *ctl;
	struct ctl_links links;
	uint64_t asked_id[RAFT_MEMBERS_MAX];
	struct rolling_view view;
	uint64_t target; /* the leader's commit index when the current wait began; 0: nobody has led since */
	uint64_t target_term;
	uint64_t ids[UNITS_MAX]; /* still to be restarted */
	unsigned n;
	unsigned n_done;
};

/* What systemd runs here ------------------------------------------------------------------------------- */

static bool parse_unit(const char *unit, uint64_t *ret_id)
{
	char id[32];
	size_t prefix = strlen(UNIT_PREFIX);
	size_t len = strlen(unit);
	size_t suffix = strlen(UNIT_SUFFIX);
	if (len <= prefix + suffix || len - prefix - suffix >= sizeof id || strncmp(unit, UNIT_PREFIX, prefix) != 0 ||
	    strcmp(unit + len - suffix, UNIT_SUFFIX) != 0)
		return false;
	memcpy(id, unit + prefix, len - prefix - suffix);
	id[len - prefix - suffix] = '\0';
	return config_parse_u64(id, 1, INT64_MAX, ret_id);
}

/* One line of the listing: unit, whether loaded, whether active, … */
static int take_unit(struct restart *restart, char *line)
{
	uint64_t id;
	char *rest = NULL;
	const char *unit = strtok_r(line, " ", &rest);
	const char *loaded = strtok_r(NULL, " ", &rest);
	const char *active = strtok_r(NULL, " ", &rest);
	if (unit == NULL || loaded == NULL || active == NULL || !parse_unit(unit, &id))
		return CTL_OK;
	if (restart->ctl->options.id != 0 && restart->ctl->options.id != id)
		return CTL_OK;
	if (strcmp(active, "failed") == 0) {
		(void)fprintf(stderr, "raftctl: %s has failed and stays as it is; see systemctl status %s\n", unit,
			      unit);
		return CTL_OK;
	}
	if (strcmp(active, "active") != 0 && strcmp(active, "reloading") != 0)
		return ctl_fail(CTL_NEGATIVE, "%s is %s; wait until it runs, or stop it", unit, active);
	if (restart->n == UNITS_MAX)
		return ctl_fail(CTL_FAILED, "more than %u members run here", UNITS_MAX);
	restart->ids[restart->n++] = id;
	return CTL_OK;
}

static int find_units(struct restart *restart)
{
	static const char *const list[] = {"list-units",
					   "--type=service",
					   "--plain",
					   "--full",
					   "--no-legend",
					   "--no-pager",
					   UNIT_PREFIX "*" UNIT_SUFFIX,
					   NULL};
	static char listing[LISTING_SIZE];
	char *rest = NULL;
	int code = ctl_systemctl(list, ctl_now_us() + SYSTEMCTL_US, listing, sizeof listing);
	if (code == CTL_TIMEOUT)
		return ctl_fail((enum ctl_exit)code, "systemctl does not answer");
	if (code != CTL_OK)
		return code;
	for (char *line = strtok_r(listing, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
		code = take_unit(restart, line);
		if (code != CTL_OK)
			return code;
	}
	return CTL_OK;
}

/* Looking at the cluster ------------------------------------------------------------------------------- */

static bool is_voter(const struct ctl *ctl, uint64_t id)
{
	for (uint32_t k = 0; k < ctl->membership.count; k++)
		if (ctl->membership.members[k].id == id)
			return ctl->membership.members[k].role == KV_MEMBER_VOTER;
	return true; /* nobody could be asked: the configuration file's members */
}

static int open_links(struct restart *restart)
{
	int r = ctl_links_open(&restart->ctl->config, 0, &restart->links);
	restart->view.n = restart->links.n;
	for (unsigned k = 0; k < restart->links.n; k++)
		restart->view.members[k].id = restart->links.links[k].member->id;
	return r < 0 ? CTL_FAILED : CTL_OK;
}

static void take_status(struct restart *restart, const struct ctl_event *event)
{
	struct rolling_member *member = &restart->view.members[event->link];
	struct kv_member_status status;
	if (event->answer.answer != KV_ANSWER_OK ||
	    !kv_status_decode(event->answer.data, event->answer.size, &status) || status.id != member->id)
		return;
	*member = (struct rolling_member){.id = member->id,
					  .answered = true,
					  .leads = status.role == 3,
					  .leader = status.leader,
					  .term = status.term,
					  .commit = status.commit,
					  .applied = status.applied};
}

static void take_event(struct restart *restart, const struct ctl_event *event)
{
	uint64_t *asked_id = &restart->asked_id[event->link];
	switch (event->news) {
	case CTL_NEWS_UP:
		*asked_id = ctl_links_send(&restart->links, event->link, KV_REQUEST_STATUS, NULL, 0);
		break;
	case CTL_NEWS_DOWN:
		*asked_id = 0;
		break;
	case CTL_NEWS_REPLY:
		if (event->id == *asked_id)
			take_status(restart, event);
		break;
	case CTL_NEWS_NONE:
		break;
	}
}

static bool all_answered(const struct restart *restart)
{
	for (unsigned k = 0; k < restart->view.n; k++)
		if (!restart->view.members[k].answered)
			return false;
	return true;
}

/* Asks everybody anew: what was said before does not count. */
static int look(struct restart *restart)
{
	uint64_t until = ctl_now_us() + ANSWER_US;
	for (unsigned k = 0; k < restart->view.n; k++) {
		restart->view.members[k].answered = false;
		restart->asked_id[k] = ctl_links_send(&restart->links, k, KV_REQUEST_STATUS, NULL, 0);
	}
	while (!all_answered(restart) && ctl_now_us() < until) {
		struct ctl_event event;
		int r = ctl_links_wait(&restart->links, until, &event);
		if (r < 0)
			return ctl_fail(CTL_FAILED, "the connection to the members failed: %s", strerror(-r));
		take_event(restart, &event);
	}
	for (unsigned k = 0; k < restart->view.n; k++)
		restart->view.members[k].voter = is_voter(restart->ctl, restart->view.members[k].id);
	const struct rolling_member *leader = rolling_find_leader(&restart->view);
	if (leader != NULL && restart->target_term != leader->term) {
		restart->target = leader->commit;
		restart->target_term = leader->term;
	}
	return CTL_OK;
}

static void begin_wait(struct restart *restart)
{
	restart->target = 0;
	restart->target_term = 0;
}

static void pause_a_little(void)
{
	struct timespec pause = {.tv_nsec = PAUSE_US * 1000};
	(void)nanosleep(&pause, NULL); /* woken early it only looks early */
}

/* One member's turn ------------------------------------------------------------------------------------ */

static int refuse(const struct restart *restart, uint64_t id, const struct rolling_verdict *verdict)
{
	if (!verdict->led)
		return ctl_fail(CTL_NEGATIVE,
				"member %" PRIu64 " is not restarted: the cluster has no leader. See raftctl status; "
				"--force restarts all the same",
				id);
	return ctl_fail(CTL_NEGATIVE,
			"member %" PRIu64 " is not restarted: %u of the other voters must be up and caught up to entry "
			"%" PRIu64 ", and %u are (%u do not answer). See raftctl status; --force restarts all the same",
			id, verdict->needed, restart->target, verdict->well, verdict->silent);
}

/* Waits until the cluster can spare the member. */
static int await_turn(struct restart *restart, uint64_t id, uint64_t deadline_us)
{
	struct rolling_verdict verdict;
	begin_wait(restart);
	for (;;) {
		int code = look(restart);
		if (code != CTL_OK)
			return code;
		rolling_judge(&restart->view, id, restart->target, &verdict);
		if (verdict.can_be_spared || restart->ctl->options.force)
			return CTL_OK;
		if (ctl_now_us() >= deadline_us)
			return refuse(restart, id, &verdict);
		pause_a_little();
	}
}

/* Waits until the member, which is ready, follows the leader and has applied what was committed. */
static int await_return(struct restart *restart, uint64_t id, uint64_t deadline_us)
{
	begin_wait(restart);
	for (;;) {
		int code = look(restart);
		if (code != CTL_OK)
			return code;
		const struct rolling_member *member = rolling_find_member(&restart->view, id);
		if (rolling_is_well(&restart->view, id, restart->target)) {
			printf("member %" PRIu64 ": back, %s in term %" PRIu64 ", has applied entry %" PRIu64 "\n", id,
			       member->leads ? "leads" : "follows", member->term, member->applied);
			return CTL_OK;
		}
		if (member == NULL || restart->ctl->options.force) {
			printf("member %" PRIu64 ": ready\n", id);
			return CTL_OK;
		}
		if (ctl_now_us() >= deadline_us)
			return ctl_fail(CTL_TIMEOUT,
					"member %" PRIu64 " runs again, but has not caught up to entry %" PRIu64
					" in time: %s. No other is restarted; see raftctl status",
					id, restart->target,
					!member->answered     ? "it does not answer"
					: member->leader == 0 ? "it knows no leader"
							      : "it lags");
		pause_a_little();
	}
}

/* Whether a unit that did not start at once runs after all: systemd tries again by itself for a while. */
static bool starts_later(const char *unit, uint64_t deadline_us)
{
	const char *const show[] = {"show", "--property=ActiveState", "--value", unit, NULL};
	char state[64];
	while (ctl_now_us() < deadline_us) {
		if (ctl_systemctl(show, deadline_us, state, sizeof state) != CTL_OK)
			return false;
		state[strcspn(state, "\n")] = '\0';
		if (strcmp(state, "active") == 0)
			return true;
		if (strcmp(state, "activating") != 0 && strcmp(state, "deactivating") != 0)
			return false;
		pause_a_little();
	}
	return false;
}

static int restart_unit(const char *verb, const char *unit, uint64_t deadline_us)
{
	char output[512];
	const char *const arguments[] = {verb, unit, NULL};
	int code = ctl_systemctl(arguments, deadline_us, output, sizeof output);
	if (code == CTL_TIMEOUT)
		return ctl_fail((enum ctl_exit)code,
				"%s is not ready in time. systemd goes on with it: see systemctl status %s and "
				"journalctl -u %s. Nothing else is restarted",
				unit, unit, unit);
	if (code != CTL_OK && starts_later(unit, deadline_us))
		return CTL_OK;
	if (code != CTL_OK)
		return ctl_fail((enum ctl_exit)code,
				"%s did not start again: see systemctl status %s and journalctl -u %s. Nothing else "
				"is restarted",
				unit, unit, unit);
	return CTL_OK;
}

static uint64_t member_us(const struct ctl *ctl)
{
	return ctl->options.timeout_given ? (uint64_t)ctl->options.timeout_ms * 1000u : MEMBER_US;
}

static int restart_member(struct restart *restart, uint64_t id)
{
	char unit[64];
	(void)snprintf(unit, sizeof unit, UNIT_PREFIX "%" PRIu64 UNIT_SUFFIX, id);
	const struct rolling_member *leader = rolling_find_leader(&restart->view);
	bool leads = leader != NULL && leader->id == id;
	printf("member %" PRIu64 ": %s%s\n", id, restart->ctl->options.dry_run ? "would restart" : "restarting",
	       leads ? "; it leads, and hands over first" : "");
	(void)fflush(stdout); /* an operator watches; a failure shows at the end */
	if (restart->ctl->options.dry_run)
		return CTL_OK;
	uint64_t deadline_us = ctl_now_us() + member_us(restart->ctl);
	int code = restart_unit("restart", unit, deadline_us);
	return code == CTL_OK ? await_return(restart, id, deadline_us) : code;
}

static int restart_members(struct restart *restart)
{
	uint64_t first_us = member_us(restart->ctl) < FIRST_LOOK_US ? member_us(restart->ctl) : FIRST_LOOK_US;
	while (restart->n > 0) {
		int code = look(restart);
		if (code != CTL_OK)
			return code;
		unsigned next = rolling_choose(&restart->view, restart->ids, restart->n);
		uint64_t id = restart->ids[next];
		code = await_turn(restart, id,
				  ctl_now_us() + (restart->n_done == 0 ? first_us : member_us(restart->ctl)));
		if (code == CTL_OK)
			code = restart_member(restart, id);
		if (code != CTL_OK)
			return code;
		restart->ids[next] = restart->ids[--restart->n];
		restart->n_done++;
	}
	return CTL_OK;
}

/* The bridge's socket stays, so that clients that come meanwhile wait, and the others are answered before it stops. */
static int restart_bridge(const struct restart *restart)
{
	if (restart->ctl->options.dry_run) {
		printf("bridge: would restart, if it runs\n");
		return CTL_OK;
	}
	int code = restart_unit("try-restart", "raft-bridge" UNIT_SUFFIX, ctl_now_us() + member_us(restart->ctl));
	if (code == CTL_OK)
		printf("bridge: restarted, if it ran\n");
	return code;
}

int ctl_restart(struct ctl *ctl)
{
	static struct restart restart;
	restart.ctl = ctl;
	if (!ctl->options.rolling)
		return ctl_fail(CTL_USAGE, "restart takes --rolling. All at once: systemctl restart raft.target, which "
					   "no client overlooks");
	int code = find_units(&restart);
	if (code == CTL_OK && restart.n > 0) {
		code = open_links(&restart);
		if (code == CTL_OK)
			code = restart_members(&restart);
		ctl_links_close(&restart.links);
	} else if (code == CTL_OK) {
		printf("%s\n",
		       ctl->options.id != 0 ? "this member does not run on this host" : "no member runs on this host");
	}
	if (code == CTL_OK && ctl->options.bridge)
		code = restart_bridge(&restart);
	return code;
}
