/*
 * One question and its answer; see raftctl_call.h.
 *
 * There is no state between calls but which link answered last. A call is a loop over what happens on the links, with
 * at most one question under way and, while nobody is known to lead, "do you lead?" to everybody who is connected.
 */
#include "raftctl_call.h"

#include "raftctl.h"

#include "daemon/assert.h"

#include <string.h>

/* Without any connection for so long, no member runs: waiting for the whole timeout would tell nobody more. */
#define CONNECT_US 1000000u
/* Between two rounds of "do you lead?", and before a busy leader is asked again. */
#define PACE_US 20000u
/* A member that is silent for so long may be stopped while another leads already. */
#define SILENCE_US 1000000u

#define NO_LINK RAFT_MEMBERS_MAX

struct search {
	struct ctl_call *call;
	const struct ctl_question *question;
	bool any;			       /* any member will do */
	uint64_t connect_us;		       /* until then some link must have come up */
	bool connected;			       /* one has */
	unsigned target;		       /* NO_LINK while it is not known whom to ask */
	uint64_t asked_id;		       /* of the question under way, 0: none */
	uint64_t asked_us;		       /* when */
	uint64_t next_us;		       /* not before: the next step */
	bool maybe;			       /* some sending of it may have been taken */
	uint8_t refusal;		       /* the last one */
	bool refused;			       /* there was one */
	uint64_t leader_ids[RAFT_MEMBERS_MAX]; /* of "do you lead?" under way, 0: none */
	uint64_t leader_us[RAFT_MEMBERS_MAX];  /* when each was asked */
};

const char *ctl_answer_name(uint8_t answer)
{
	switch ((enum kv_answer)answer) {
	case KV_ANSWER_OK:
		return "ok";
	case KV_ANSWER_NOT_FOUND:
		return "not found";
	case KV_ANSWER_NOT_LEADER:
		return "not the leader";
	case KV_ANSWER_UNKNOWN:
		return "outcome unknown";
	case KV_ANSWER_BUSY:
		return "busy";
	case KV_ANSWER_NOT_READY:
		return "the leader is not ready yet";
	case KV_ANSWER_BAD_REQUEST:
		return "bad request";
	case KV_ANSWER_DISK_FULL:
		return "the leader's disk is full";
	case KV_ANSWER_LOST:
		return "the leader lost its leadership";
	case KV_ANSWER_REFUSED:
		return "refused";
	}
	return "an answer that this version does not know";
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void start(struct search *search, struct ctl_call *call, const struct ctl_question *question)
{
	*search = (struct search){.call = call, .question = question, .target = NO_LINK};
	search->connect_us = earlier(ctl_now_us() + CONNECT_US, call->deadline_us);
	for (unsigned k = 0; k < call->links->n; k++)
		search->connected = search->connected || call->links->links[k].up;
}

/* Nobody is known to lead any more; what was under way may have been taken. */
static void lose_target(struct search *search, uint64_t pause_us)
{
	search->maybe = search->maybe || search->asked_id != 0;
	search->asked_id = 0;
	search->target = NO_LINK;
	search->next_us = ctl_now_us() + pause_us;
}

static void ask_who_leads(struct search *search)
{
	struct ctl_links *links = search->call->links;
	uint64_t now = ctl_now_us();
	for (unsigned k = 0; k < links->n; k++) {
		if (search->leader_ids[k] != 0 && now - search->leader_us[k] < SILENCE_US)
			continue; /* far away, perhaps: its answer still counts */
		search->leader_ids[k] = ctl_links_send(links, k, KV_REQUEST_LEADER, NULL, 0);
		search->leader_us[k] = now;
	}
	search->next_us = now + PACE_US;
}

static void ask(struct search *search)
{
	const struct ctl_question *question = search->question;
	search->asked_id =
		ctl_links_send(search->call->links, search->target, question->type, question->body, question->size);
	search->asked_us = ctl_now_us();
	if (search->asked_id == 0)
		lose_target(search, PACE_US);
}

static void choose_any(struct search *search)
{
	struct ctl_links *links = search->call->links;
	for (unsigned k = 0; k < links->n && search->target == NO_LINK; k++)
		if (links->links[k].up)
			search->target = k;
	if (search->target == NO_LINK)
		search->next_us = UINT64_MAX; /* until a link comes up */
}

/* Does what is due now. */
static void step(struct search *search)
{
	uint64_t now = ctl_now_us();
	if (search->asked_id != 0 && now - search->asked_us >= SILENCE_US && !search->any)
		lose_target(search, 0);
	if (search->asked_id != 0 || now < search->next_us)
		return;
	if (search->target == NO_LINK && search->any)
		choose_any(search);
	else if (search->target == NO_LINK)
		ask_who_leads(search);
	if (search->target != NO_LINK && search->question != NULL)
		ask(search);
}

static uint64_t next_step_us(const struct search *search)
{
	uint64_t next = search->call->deadline_us;
	if (!search->connected)
		return earlier(next, search->connect_us);
	if (search->asked_id == 0)
		return earlier(next, search->next_us);
	return search->any ? next : earlier(next, search->asked_us + SILENCE_US);
}

/* A reply to "do you lead?". */
static void take_leader_reply(struct search *search, const struct ctl_event *event)
{
	search->leader_ids[event->link] = 0;
	if (search->target != NO_LINK || event->answer.answer != KV_ANSWER_OK)
		return;
	search->target = event->link;
	search->next_us = 0;
}

/* The reply to the question. True: it is final. */
static bool take_answer(struct search *search, const struct ctl_event *event)
{
	search->asked_id = 0;
	switch ((enum kv_answer)event->answer.answer) {
	case KV_ANSWER_OK:
	case KV_ANSWER_NOT_FOUND:
	case KV_ANSWER_BAD_REQUEST:
	case KV_ANSWER_REFUSED:
		return true;
	case KV_ANSWER_UNKNOWN:
		search->maybe = true;
		break;
	case KV_ANSWER_NOT_LEADER:
	case KV_ANSWER_BUSY:
	case KV_ANSWER_NOT_READY:
	case KV_ANSWER_DISK_FULL:
	case KV_ANSWER_LOST:
		search->refused = true;
		search->refusal = event->answer.answer;
		break;
	}
	lose_target(search, PACE_US);
	return false;
}

/* True: *event is the final answer to the question. */
static bool take_event(struct search *search, const struct ctl_event *event)
{
	switch (event->news) {
	case CTL_NEWS_UP:
		search->connected = true;
		if (search->target == NO_LINK)
			search->next_us = 0;
		break;
	case CTL_NEWS_DOWN:
		search->leader_ids[event->link] = 0;
		if (event->link == search->target)
			lose_target(search, 0);
		break;
	case CTL_NEWS_REPLY:
		if (search->asked_id != 0 && event->id == search->asked_id)
			return take_answer(search, event);
		if (event->id == search->leader_ids[event->link])
			take_leader_reply(search, event);
		break; /* others are answers to what was given up */
	case CTL_NEWS_NONE:
		break;
	}
	return false;
}

/* Why there was no answer, on stderr. */
static int give_up(const struct search *search)
{
	if (!search->connected)
		return ctl_fail(CTL_UNREACHABLE, "cannot reach %s: is raftd running? (%s%s)",
				search->call->links->n == 1 ? "this member" : "any member",
				search->call->links->links[0].member->client,
				search->call->links->n == 1 ? "" : " and others");
	if (search->maybe || search->asked_id != 0)
		return ctl_fail(CTL_TIMEOUT, search->question->write
						     ? "no answer in time: the change may or may not take effect; "
						       "look with get before repeating it"
						     : "no answer in time; try again, or look at raftctl status");
	if (search->refused && search->refusal == KV_ANSWER_DISK_FULL)
		return ctl_fail(CTL_FAILED, "%s: make room, then try again; nothing was changed",
				ctl_answer_name(search->refusal));
	if (search->any)
		return ctl_fail(CTL_TIMEOUT, "no answer in time%s%s", search->refused ? ": " : "",
				search->refused ? ctl_answer_name(search->refusal) : "");
	return ctl_fail(CTL_TIMEOUT, "no leader%s%s in time; see raftctl status%s", search->refused ? ": " : "",
			search->refused ? ctl_answer_name(search->refusal) : "",
			search->question != NULL && search->question->write ? "; nothing was changed" : "");
}

static int next_event(struct search *search, struct ctl_event *ret_event)
{
	int r = ctl_links_wait(search->call->links, next_step_us(search), ret_event);
	if (r < 0)
		return ctl_fail(CTL_FAILED, "the connection to the members failed: %s", strerror(-r));
	return CTL_OK;
}

static bool search_is_over(const struct search *search)
{
	uint64_t now = ctl_now_us();
	return now >= search->call->deadline_us || (!search->connected && now >= search->connect_us);
}

static int run(struct search *search, struct kv_answer_body *ret_answer)
{
	raft_assert(search->question != NULL && search->call->links->n > 0);
	for (;;) {
		struct ctl_event event;
		step(search);
		int code = next_event(search, &event);
		if (code != CTL_OK)
			return code;
		if (take_event(search, &event)) {
			search->call->link = event.link;
			search->call->repeated = search->maybe;
			*ret_answer = event.answer;
			return CTL_OK;
		}
		if (search_is_over(search))
			return give_up(search);
	}
}

int ctl_call_leader(struct ctl_call *call, const struct ctl_question *question, struct kv_answer_body *ret_answer)
{
	struct search search;
	start(&search, call, question);
	if (call->leader_known)
		search.target = call->link;
	int code = run(&search, ret_answer);
	call->leader_known = code == CTL_OK;
	return code;
}

int ctl_call_any(struct ctl_call *call, const struct ctl_question *question, struct kv_answer_body *ret_answer)
{
	struct search search;
	start(&search, call, question);
	search.any = true;
	return run(&search, ret_answer);
}

int ctl_call_find_leader(struct ctl_call *call, uint64_t not_id, uint64_t *ret_id, uint64_t *ret_term)
{
	struct search search;
	start(&search, call, NULL);
	for (;;) {
		struct ctl_event event;
		step(&search);
		int code = next_event(&search, &event);
		if (code != CTL_OK)
			return code;
		(void)take_event(&search, &event); /* no question is under way: none can be answered */
		if (search.target != NO_LINK && call->links->links[search.target].member->id != not_id) {
			*ret_id = call->links->links[search.target].member->id;
			*ret_term = event.answer.term;
			call->link = search.target;
			return CTL_OK;
		}
		if (search.target != NO_LINK)
			lose_target(&search, PACE_US);
		if (search_is_over(&search))
			return give_up(&search);
	}
}
