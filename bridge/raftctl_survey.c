/* See raftctl_survey.h. */
#include "raftctl_survey.h"

/* A member that is not connected by then counts as unreachable, and a connected one that has not answered by the second.
 * A host that is up accepts or refuses within a round trip; one that is busy may take its time. */
#define CONNECT_US 400000u
#define ANSWER_US 1000000u

static void take_event(struct survey *survey, const struct ctl_event *event)
{
	unsigned k = event->link;
	switch (event->news) {
	case CTL_NEWS_UP:
		survey->asked_id[k] = ctl_links_send(&survey->links, k, KV_REQUEST_STATUS, NULL, 0);
		break;
	case CTL_NEWS_REPLY:
		if (event->id == survey->asked_id[k] && event->answer.answer == KV_ANSWER_OK &&
		    kv_status_decode(event->answer.data, event->answer.size, &survey->members[k]))
			survey->reachable[k] = true;
		break;
	case CTL_NEWS_DOWN:
		survey->asked_id[k] = 0;
		break;
	case CTL_NEWS_NONE:
		break;
	}
}

/* Until when to wait: shorter once the missing ones are not even connected. 0: all have. */
static uint64_t wait_until_us(const struct survey *survey, uint64_t connect_us, uint64_t answer_us)
{
	bool missing = false;
	bool silent = false;
	for (unsigned k = 0; k < survey->links.n; k++) {
		missing = missing || !survey->reachable[k];
		silent = silent || (survey->links.links[k].up && !survey->reachable[k]);
	}
	if (!missing)
		return 0;
	return silent ? answer_us : connect_us;
}

/* Asks everybody. 0, or negative errno. */
static int ask_all(struct survey *survey, uint32_t timeout_ms)
{
	uint64_t start = ctl_now_us();
	uint64_t timeout_us = (uint64_t)timeout_ms * 1000u;
	uint64_t connect_us = start + (timeout_us < CONNECT_US ? timeout_us : CONNECT_US);
	uint64_t answer_us = start + (timeout_us < ANSWER_US ? timeout_us : ANSWER_US);
	for (;;) {
		struct ctl_event event;
		uint64_t until = wait_until_us(survey, connect_us, answer_us);
		if (ctl_now_us() >= until)
			return 0;
		int r = ctl_links_wait(&survey->links, until, &event);
		if (r < 0)
			return r;
		take_event(survey, &event);
	}
}

int survey_take(const struct ctl *ctl, struct survey *ret_survey)
{
	*ret_survey = (struct survey){.config = &ctl->config};
	int r = ctl_links_open(&ctl->config, ctl->options.id, &ret_survey->links);
	return r == 0 ? ask_all(ret_survey, ctl->options.timeout_ms) : r;
}

void survey_close(struct survey *survey)
{
	ctl_links_close(&survey->links);
}

/* What follows from it -------------------------------------------------------------------------------- */

const char *survey_role_name(uint64_t role)
{
	static const char *const names[] = {"follower", "pre-candidate", "candidate", "leader", "learner"};
	return role < sizeof names / sizeof names[0] ? names[role] : "unknown";
}

uint64_t survey_term(const struct survey *survey)
{
	uint64_t term = 0;
	for (unsigned k = 0; k < survey->links.n; k++)
		if (survey->reachable[k] && survey->members[k].term > term)
			term = survey->members[k].term;
	return term;
}

const struct kv_member_status *survey_leader(const struct survey *survey)
{
	uint64_t term = survey_term(survey);
	for (unsigned k = 0; k < survey->links.n; k++)
		if (survey->reachable[k] && survey->members[k].role == 3 && survey->members[k].term == term)
			return &survey->members[k];
	return NULL;
}

unsigned survey_reachable(const struct survey *survey)
{
	unsigned n = 0;
	for (unsigned k = 0; k < survey->links.n; k++)
		n += survey->reachable[k] ? 1 : 0;
	return n;
}
