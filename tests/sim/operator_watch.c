/*
 * Operators that watch members: what is wrong with one, which program it runs, who answers its beats as a leader and how soon. What
 * they saw last time must still be so.
 */
#include "operator.h"

#include "check.h"

#include "daemon/assert.h"
#include "kv/admin.h"

#include <inttypes.h>
#include <stdlib.h>

/* Health ---------------------------------------------------------------------------------------------- */

static void note_failures(struct sim *sim, unsigned member, const struct kv_member_status *status)
{
	for (uint64_t bit = 1; bit <= KV_CHECKS_READY; bit <<= 1)
		if ((status->failed_checks & bit) != 0)
			sim_note(sim, "%u is not well: %s", member + 1, kv_check_text(bit, true));
	for (uint64_t bit = 1; bit <= KV_ALARM_DISK_STALLED; bit <<= 1)
		if ((status->alarms & bit) != 0)
			sim_note(sim, "%u alarms: %s", member + 1, kv_alarm_name(bit));
}

/* A number only if the program has one, and then the one that everybody makes of it. */
static bool is_version(const struct sim *sim, unsigned member, uint64_t version)
{
	char text[SIM_VERSION_SIZE];
	uint64_t expected = (uint64_t)sim_level_of_program(sim, member) << 16 | member;
	sim_level_version(sim, member, text);
	return version == (text[0] == '0' ? expected : 0);
}

void sim_watch_health(struct sim *sim, unsigned member, const struct kv_member_status *status)
{
	const struct sim_view *view = &sim->members[member].view;
	bool refused = sim->counts.files_refused + sim->counts.streams_refused > 0;
	bool blank = (status->failed_checks & KV_CHECK_MEMBER) != 0;
	bool leaderless = (status->failed_checks & KV_CHECK_LEADER) != 0;
	note_failures(sim, member, status);
	if (!is_version(sim, member, status->version))
		sim_fail(sim, "member %u says that its program is %" PRIx64, member + 1, status->version);
	if ((status->failed_checks & ~(uint64_t)KV_CHECKS_READY) != 0 || leaderless != (status->leader == 0) ||
	    (blank && (view->members != 0 || status->last > 0)))
		sim_fail(sim, "member %u says of itself that checks %" PRIx64 " fail", member + 1, status->failed_checks);
	if ((status->alarms & KV_ALARM_DISK_FULL) != 0 && !refused)
		sim_fail(sim, "member %u says that its disk is full, and there was always room", member + 1);
}

/* Beats ----------------------------------------------------------------------------------------------- */

struct sim_watching {
	struct watched {
		unsigned life;
		struct kv_beats beats; /* the newest that were seen in this life */
	} members[SIM_MEMBERS_MAX];
};

struct sim_watching *sim_watching_new(void)
{
	struct sim_watching *watching = calloc(1, sizeof *watching);
	raft_assert(watching != NULL);
	return watching;
}

void sim_watching_free(struct sim_watching *watching)
{
	free(watching);
}

static _Noreturn void fail_beat(const struct sim *sim, unsigned member, const struct kv_beat *beat, const char *what)
{
	sim_fail(sim, "member %u: beat %" PRIu64 " of term %" PRIu64 ": %s", member + 1, beat->number, beat->term, what);
}

/* Answers are in the order of their arrival, one of each; with the one that makes them a quorum, they are one. */
static void check_answers(struct sim *sim, unsigned member, const struct kv_beat *beat)
{
	uint64_t heard = 1u << member, last_us = 0;
	bool decides = beat->quorum == 0;
	for (uint64_t k = 0; k < beat->n_answers; k++) {
		uint64_t id = beat->answers[k].id, after_us = beat->answers[k].after_us;
		if (id == 0 || id > sim_members(sim) || (heard >> (id - 1) & 1) != 0)
			fail_beat(sim, member, beat, "somebody is named who did not answer");
		if (after_us < last_us || after_us > beat->age_us)
			fail_beat(sim, member, beat, "an answer is older than the one before, or not there yet");
		heard |= (uint64_t)1 << (id - 1);
		last_us = after_us;
		decides |= after_us == beat->quorum_us;
	}
	if (!decides)
		fail_beat(sim, member, beat, "a quorum without the answer that makes it one");
}

/* What was said of a beat stays so. */
static void check_same(const struct sim *sim, unsigned member, const struct kv_beat *before, const struct kv_beat *now)
{
	if (now->term != before->term || now->n_answers < before->n_answers || now->quorum < before->quorum ||
	    now->age_us < before->age_us || (before->quorum != 0 && now->quorum_us != before->quorum_us))
		fail_beat(sim, member, now, "it was another one before");
	for (uint64_t k = 0; k < before->n_answers; k++)
		if (now->answers[k].id != before->answers[k].id || now->answers[k].after_us != before->answers[k].after_us)
			fail_beat(sim, member, now, "it had other answers before");
}

static void check_beats(struct sim *sim, unsigned member, uint64_t after, const struct kv_beats *beats,
			const struct kv_beats *before)
{
	struct raft_status status;
	raft_get_status(replica_core(sim->members[member].replica), &status);
	uint64_t last = beats->count > 0 ? beats->beats[beats->count - 1].number : after;
	if (beats->id != member + 1 || beats->role != status.role || beats->term != status.hard_state.term ||
	    beats->leader != status.leader || beats->heartbeat_us != sim->plan.heartbeat_us ||
	    beats->voters != status.n_voters || beats->newest < last || beats->newest < before->newest ||
	    (beats->count < KV_BEATS_MAX && last < beats->newest))
		sim_fail(sim, "member %u tells of %" PRIu64 " beats, the last is %" PRIu64 ", its newest %" PRIu64, member + 1,
			 beats->count, last, beats->newest);
	for (uint64_t k = 0; k < beats->count; k++) {
		const struct kv_beat *beat = &beats->beats[k];
		const struct kv_beat *previous = k > 0 ? beat - 1 : NULL;
		if (sim_check_term(sim, beat->term)->leader != member + 1)
			fail_beat(sim, member, beat, "it did not lead that term");
		if (previous == NULL ? beat->number <= after : beat->number != previous->number + 1)
			fail_beat(sim, member, beat, "one is missing, or there again");
		if (previous != NULL && (beat->term < previous->term ||
					 (beat->term == previous->term &&
					  previous->age_us - beat->age_us < beats->heartbeat_us)))
			fail_beat(sim, member, beat, "it is too close to the one before");
		check_answers(sim, member, beat);
		for (uint64_t j = 0; j < before->count; j++)
			if (before->beats[j].number == beat->number)
				check_same(sim, member, &before->beats[j], beat);
	}
}

/* Mostly what is new since the last look and the newest beat that was seen then, now and then all that is kept. */
void sim_watch_beats(struct sim *sim, struct sim_watching *watching, unsigned member, struct sim_random *random)
{
	struct watched *watched = &watching->members[member];
	uint8_t body[KV_BEATS_BODY_SIZE];
	struct kv_frame frame = {0};
	struct kv_answer_body answer;
	struct kv_beats beats;
	if (watched->life != sim->members[member].life)
		*watched = (struct watched){.life = sim->members[member].life};
	uint64_t newest = watched->beats.newest;
	uint64_t after = newest == 0 || sim_random_below(random, 4) == 0 ? 0 : newest - 1;
	kv_beats_request_encode(body, after);
	const struct sim_question question = {.member = member,
					      .type = KV_REQUEST_BEATS,
					      .body = body,
					      .size = sizeof body,
					      .codec = SIM_CODEC_BEATS_REQUEST};
	if (sim_operator_ask(sim, &question, random, &frame, &answer)) {
		if (answer.answer != KV_ANSWER_OK || !kv_beats_decode(answer.data, answer.size, &beats))
			sim_fail(sim, "member %u tells of beats that cannot be read", member + 1);
		for (unsigned k = 0; k < SIM_DISTORTIONS; k++)
			sim_codec_distort(sim, random, SIM_CODEC_BEATS, answer.data, answer.size);
		check_beats(sim, member, after, &beats, &watched->beats);
		if (beats.count > 0)
			watched->beats = beats;
	}
	kv_frame_free(&frame);
}
