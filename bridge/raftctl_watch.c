/*
 * raftctl watch-cluster: the leader's heart, live. A line for each beat with who answered it and how soon, and one for whatever
 * changes in between: who leads, who campaigns, that nothing beats any more.
 *
 * Every member is asked a few times a second for what it does and for the beats since the last question; a leader keeps some
 * seconds of them. Polling costs the members a small request; a subscription would have to live in the members also while
 * nobody watches, and die with each change of the leader.
 *
 * What this must not know: elections.
 */
#include "raftctl.h"
#include "raftctl_json.h"
#include "raftctl_survey.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROLE_LEADER 3u
#define POLL_US_MIN 20000u /* otherwise as often as the heart beats */
#define POLL_US_MAX 500000u
/* Without a beat for so many heartbeats the heart has stopped; a busy member may be late by one or two. */
#define SILENT_BEATS 4u
#define SILENT_US_MIN 500000u

struct watched {
	bool known; /* it has answered since its connection is up */
	uint64_t asked_id;
	uint64_t role, term;
	uint64_t seen; /* number of its newest beat that was looked at */
};

struct watch {
	struct ctl *ctl;
	struct ctl_links links;
	struct watched members[RAFT_MEMBERS_MAX];
	uint64_t heartbeat_us;
	uint64_t last_beat_us;
	bool stopped;	/* and it was said */
	uint64_t shown; /* beats */
};

/* Lines ----------------------------------------------------------------------------------------------- */

static void begin_line(const struct watch *watch, struct json *json, const char *event)
{
	char text[32];
	struct timespec now;
	struct tm local;
	int r = clock_gettime(CLOCK_REALTIME, &now);
	raft_assert(r == 0);
	uint64_t ms = (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
	if (watch->ctl->options.json) {
		json_begin_object(json, NULL);
		json_string(json, "event", event);
		json_milli(json, "time", ms);
		return;
	}
	if (localtime_r(&now.tv_sec, &local) == NULL || strftime(text, sizeof text, "%H:%M:%S", &local) == 0)
		text[0] = '\0';
	printf("%s.%03u  ", text, (unsigned)(ms % 1000u));
}

static void end_line(const struct watch *watch, struct json *json)
{
	if (watch->ctl->options.json)
		json_end_object(json);
	(void)putchar('\n');
	(void)fflush(stdout); /* an error shows at the end */
}

static void show_beat_json(const struct watch *watch, const struct kv_beats *beats, const struct kv_beat *beat)
{
	struct json json = {.file = stdout};
	begin_line(watch, &json, "beat");
	json_u64(&json, "leader", beats->id);
	json_u64(&json, "term", beat->term);
	json_u64(&json, "number", beat->number);
	if (beat->quorum != 0)
		json_u64(&json, "quorum_us", beat->quorum_us);
	else
		json_null(&json, "quorum_us");
	json_begin_array(&json, "answers");
	for (uint64_t k = 0; k < beat->n_answers; k++) {
		json_begin_object(&json, NULL);
		json_u64(&json, "member", beat->answers[k].id);
		json_u64(&json, "after_us", beat->answers[k].after_us);
		json_end_object(&json);
	}
	json_end_array(&json);
	end_line(watch, &json);
}

static bool has_answered(const struct kv_beat *beat, uint64_t id)
{
	for (uint64_t k = 0; k < beat->n_answers; k++)
		if (beat->answers[k].id == id)
			return true;
	return false;
}

static void show_beat_text(const struct watch *watch, const struct kv_beats *beats, const struct kv_beat *beat)
{
	begin_line(watch, NULL, "beat");
	printf("beat %-6" PRIu64 " leader %" PRIu64 "  term %" PRIu64 " ", beat->number, beats->id, beat->term);
	for (uint64_t k = 0; k < beat->n_answers; k++)
		printf("  %" PRIu64 " %.2f ms", beat->answers[k].id, (double)beat->answers[k].after_us / 1000.0);
	for (unsigned k = 0; k < watch->links.n; k++) {
		uint64_t id = watch->links.links[k].member->id;
		if (id != beats->id && !has_answered(beat, id))
			printf("  %" PRIu64 " -", id);
	}
	if (beat->quorum == 0)
		printf("   NO QUORUM");
	end_line(watch, NULL);
}

static void show_role(const struct watch *watch, uint64_t id, const char *role, uint64_t term)
{
	struct json json = {.file = stdout};
	begin_line(watch, &json, "role");
	if (watch->ctl->options.json) {
		json_u64(&json, "member", id);
		json_string(&json, "role", role);
		json_u64(&json, "term", term);
	} else {
		printf("member %" PRIu64 ": %s", id, role);
		if (term != 0)
			printf(" in term %" PRIu64, term);
	}
	end_line(watch, &json);
}

static void show_plain(const struct watch *watch, const char *event, const char *text)
{
	struct json json = {.file = stdout};
	begin_line(watch, &json, event);
	if (!watch->ctl->options.json)
		(void)fputs(text, stdout);
	end_line(watch, &json);
}

static bool is_done(const struct watch *watch)
{
	return watch->ctl->options.count != 0 && watch->shown >= watch->ctl->options.count;
}

/* Beats that are told of are over: what has not answered by now answers the next one. */
static void show_beats(struct watch *watch, struct watched *member, const struct kv_beats *beats)
{
	if (beats->newest < member->seen)
		member->seen = 0; /* it was started anew */
	if (beats->voters <= 1)
		watch->last_beat_us = ctl_now_us(); /* who leads alone needs no answers */
	for (uint64_t k = 0; k < beats->count && !is_done(watch); k++) {
		const struct kv_beat *beat = &beats->beats[k];
		if (beat->number <= member->seen ||
		    (beat->age_us < beats->heartbeat_us && beat->number == beats->newest))
			continue;
		/* What was before this began, or an earlier leadership, is no news. */
		bool news = beat->age_us < SILENT_US_MIN && beat->term == beats->term;
		member->seen = beat->number;
		if (!news)
			continue;
		watch->stopped = false;
		watch->last_beat_us = ctl_now_us();
		watch->shown++;
		if (watch->ctl->options.json)
			show_beat_json(watch, beats, beat);
		else
			show_beat_text(watch, beats, beat);
	}
}

/* One member at least has answered. */
static bool has_met_anybody(const struct watch *watch)
{
	for (unsigned k = 0; k < watch->links.n; k++)
		if (watch->members[k].known)
			return true;
	return false;
}

/* Asking ---------------------------------------------------------------------------------------------- */

static void take_answer(struct watch *watch, const struct ctl_event *event)
{
	static struct kv_beats beats; /* some ten KiB */
	struct watched *member = &watch->members[event->link];
	if (event->id != member->asked_id || event->answer.answer != KV_ANSWER_OK ||
	    !kv_beats_decode(event->answer.data, event->answer.size, &beats))
		return;
	member->asked_id = 0;
	if (watch->shown == 0 && !member->known)
		member->seen = beats.newest; /* what was before this began is no news */
	if (!member->known || member->role != beats.role || member->term != beats.term)
		show_role(watch, beats.id, survey_role_name(beats.role), beats.term);
	member->known = true;
	member->role = beats.role;
	member->term = beats.term;
	watch->heartbeat_us = beats.heartbeat_us;
	if (beats.role == ROLE_LEADER)
		show_beats(watch, member, &beats);
}

static void take_event(struct watch *watch, const struct ctl_event *event)
{
	struct watched *member = &watch->members[event->link];
	switch (event->news) {
	case CTL_NEWS_REPLY:
		take_answer(watch, event);
		break;
	case CTL_NEWS_DOWN:
		if (member->known)
			show_role(watch, watch->links.links[event->link].member->id, "unreachable", 0);
		*member = (struct watched){.seen = member->seen};
		break;
	case CTL_NEWS_UP:
	case CTL_NEWS_NONE:
		break;
	}
}

static void ask_all(struct watch *watch)
{
	uint8_t body[KV_BEATS_BODY_SIZE];
	for (unsigned k = 0; k < watch->links.n; k++) {
		struct watched *member = &watch->members[k];
		if (!watch->links.links[k].up)
			continue;
		/* Only the answer to the newest question counts; one that comes late is asked for again. */
		kv_beats_request_encode(body, member->seen);
		member->asked_id = ctl_links_send(&watch->links, k, KV_REQUEST_BEATS, body, sizeof body);
	}
}

static uint64_t poll_us(const struct watch *watch)
{
	uint64_t us = watch->heartbeat_us;
	return us < POLL_US_MIN ? POLL_US_MIN : us > POLL_US_MAX ? POLL_US_MAX : us;
}

static void tell_silence(struct watch *watch)
{
	uint64_t limit_us = watch->heartbeat_us * SILENT_BEATS;
	uint64_t now_us = ctl_now_us();
	if (watch->stopped || now_us - watch->last_beat_us < (limit_us > SILENT_US_MIN ? limit_us : SILENT_US_MIN))
		return;
	watch->stopped = true;
	show_plain(watch, "stopped", "THE HEART HAS STOPPED: no leader with a quorum answers");
}

/* Until --count beats were shown, or for ever. An exit code. */
static int run(struct watch *watch)
{
	uint64_t give_up_us = ctl_now_us() + (uint64_t)watch->ctl->options.timeout_ms * 1000u;
	uint64_t next_us = 0;
	watch->last_beat_us = ctl_now_us();
	while (!is_done(watch)) {
		struct ctl_event event;
		if (ctl_now_us() >= next_us) {
			ask_all(watch);
			next_us = ctl_now_us() + poll_us(watch);
		}
		if (ctl_links_wait(&watch->links, next_us, &event) < 0)
			return ctl_fail(CTL_FAILED, "the connections to the members cannot be used any more");
		take_event(watch, &event);
		if (has_met_anybody(watch))
			tell_silence(watch);
		else if (ctl_now_us() >= give_up_us)
			return ctl_fail(CTL_UNREACHABLE, "no member can be reached");
		if (ferror(stdout) != 0)
			return CTL_FAILED; /* the reader has gone */
	}
	return CTL_OK;
}

int ctl_watch(struct ctl *ctl)
{
	static struct watch watch;
	watch = (struct watch){.ctl = ctl, .heartbeat_us = (uint64_t)ctl->config.heartbeat_ms * 1000u};
	int r = ctl_links_open(&ctl->config, ctl->options.id, &watch.links);
	int code = r < 0 ? CTL_FAILED /* and it was said why */ : run(&watch);
	ctl_links_close(&watch.links);
	return code;
}
