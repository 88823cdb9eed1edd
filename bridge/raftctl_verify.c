/*
 * raftctl verify: whether all members' copies are the same, now, while clients write. Every member is asked again and again
 * for the hash of its state, and of its state at the last mark that it passed, until each could be compared.
 */
#include "compare.h"
#include "raftctl.h"
#include "raftctl_link.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define CONNECT_US 1000000u
#define PAUSE_US 20000u

struct verification {
	struct ctl_links links;
	struct compare compare;
	bool answered[RAFT_MEMBERS_MAX];
	uint64_t asked_id[RAFT_MEMBERS_MAX];
	struct kv_member_status last[RAFT_MEMBERS_MAX];
};

static void take_event(struct verification *verification, const struct ctl_event *event)
{
	struct kv_member_status *status = &verification->last[event->link];
	if (event->news == CTL_NEWS_DOWN)
		verification->asked_id[event->link] = 0;
	if (event->news != CTL_NEWS_REPLY || event->id != verification->asked_id[event->link])
		return;
	verification->asked_id[event->link] = 0;
	if (event->answer.answer != KV_ANSWER_OK || !kv_status_decode(event->answer.data, event->answer.size, status))
		return;
	verification->answered[event->link] = true;
	compare_add(&verification->compare, event->link, status->applied, status->state_hash);
	if (status->mark_index > 0) /* before that entry is after the one before it */
		compare_add(&verification->compare, event->link, status->mark_index - 1, status->mark_hash);
}

static void ask(struct verification *verification)
{
	for (unsigned k = 0; k < verification->links.n; k++)
		if (verification->asked_id[k] == 0)
			verification->asked_id[k] = ctl_links_send(&verification->links, k, KV_REQUEST_STATUS, NULL, 0);
}

static unsigned list_answered(const struct verification *verification, unsigned members[RAFT_MEMBERS_MAX])
{
	unsigned n = 0;
	for (unsigned k = 0; k < verification->links.n; k++)
		if (verification->answered[k])
			members[n++] = k;
	return n;
}

static int report_difference(const struct verification *verification, const unsigned *members, unsigned n)
{
	for (unsigned a = 0; a < n; a++) {
		for (unsigned b = a + 1; b < n; b++) {
			uint64_t index;
			if (compare_two(&verification->compare, members[a], members[b], &index) == COMPARE_DIFFERENT)
				printf("DIFFERENT: members %" PRIu64 " and %" PRIu64 " after entry %" PRIu64 "\n",
				       verification->links.links[members[a]].member->id,
				       verification->links.links[members[b]].member->id, index);
		}
	}
	return ctl_fail(CTL_NEGATIVE, "copies differ. Keep all directories; the one that differs from most is wrong: "
				      "stop it, empty its directory, and start it again");
}

static int report(const struct verification *verification, enum compare_verdict verdict)
{
	unsigned members[RAFT_MEMBERS_MAX];
	unsigned n = list_answered(verification, members);
	if (n == 0)
		return ctl_fail(CTL_UNREACHABLE, "no member can be reached");
	if (verdict == COMPARE_DIFFERENT)
		return report_difference(verification, members, n);
	for (unsigned k = 0; k < verification->links.n; k++)
		if (!verification->answered[k])
			return ctl_fail(CTL_UNREACHABLE, "member %" PRIu64 " cannot be reached; the others were %s",
					verification->links.links[k].member->id,
					verdict == COMPARE_SAME ? "found to be the same" : "not compared");
	if (verdict == COMPARE_UNKNOWN)
		return ctl_fail(CTL_TIMEOUT, "the members were never seen at the same entry in time: one lags, or give "
					     "it longer with --timeout");
	for (unsigned k = 0; k < n; k++)
		printf("member %" PRIu64 ", last seen at entry %" PRIu64 "\n",
		       verification->links.links[members[k]].member->id, verification->last[members[k]].applied);
	printf("all %u copies are the same\n", n);
	return CTL_OK;
}

static int verify(struct verification *verification, uint32_t timeout_ms)
{
	uint64_t start = ctl_now_us();
	uint64_t end = start + (uint64_t)timeout_ms * 1000u;
	unsigned members[RAFT_MEMBERS_MAX];
	for (;;) {
		uint64_t round_end = ctl_now_us() + PAUSE_US;
		struct ctl_event event;
		ask(verification);
		do {
			if (ctl_links_wait(&verification->links, round_end, &event) < 0)
				return ctl_fail(CTL_FAILED, "the connection to the members failed");
			take_event(verification, &event);
		} while (event.news != CTL_NEWS_NONE);
		unsigned n = list_answered(verification, members);
		enum compare_verdict verdict = compare_all(&verification->compare, members, n);
		bool waits = n < verification->links.n && ctl_now_us() < start + CONNECT_US;
		if (verdict == COMPARE_DIFFERENT || (verdict == COMPARE_SAME && n > 0 && !waits) || ctl_now_us() >= end)
			return report(verification, verdict);
		if (n == 0 && !waits)
			return report(verification, verdict);
	}
}

int ctl_verify(struct ctl *ctl)
{
	static struct verification verification; /* large */
	int code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, 0, &verification.links) == 0)
		code = verify(&verification, ctl->options.timeout_ms);
	ctl_links_close(&verification.links);
	return code;
}
