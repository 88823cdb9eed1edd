/*
 * The one damage that looks like none: that of the newest record of a log. Nothing behind it proves that it was complete, so a
 * start takes it for a torn write and goes on without it (daemon/storage/README.md). The member forgets one record, which it may
 * have promised to keep. A cluster bears that as long as whatever this record promised is promised by others as well: by a majority
 * without this member, in every configuration that may come to be in force.
 */
#include "check.h"
#include "durable.h"

#include <inttypes.h>

struct promise {
	unsigned member;
	uint32_t entry;	     /* the last of the log that is forgotten; 0: all of it is still there */
	uint64_t term, vote; /* vote 0: none that is forgotten */
};

/* A snapshot that the log does not lead to counts for nobody: it may be passed over when it cannot be read. */
static const struct sim_log *written(const struct sim_shadow *shadow)
{
	return shadow->rests_on_snapshot ? &shadow->written : &shadow->log;
}

/* So many others that no majority is without one of them. */
static bool others_hold(const struct sim *sim, const struct sim_config *config, const struct promise *promise)
{
	const struct sim_checks *checks = sim->checks;
	unsigned voters = (unsigned)__builtin_popcount(config->voters);
	unsigned holders = 0, decided = 0;
	uint64_t index = sim_entry(checks, promise->entry)->index;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		const struct sim_shadow *shadow = &checks->members[k].shadow;
		if (k == promise->member || !sim_config_names_voter(sim, config, k) || sim->members[k].expendable)
			continue;
		holders += sim_log_at(checks, written(shadow), index) == promise->entry;
		decided += shadow->term > promise->term ||
			   (shadow->term == promise->term && shadow->vote == promise->vote);
	}
	return (promise->entry == 0 || holders > voters / 2) && (promise->vote == 0 || decided > voters / 2);
}

static bool others_hold_in(const struct sim *sim, uint32_t number, const struct promise *promise)
{
	const struct sim_checks *checks = sim->checks;
	while (number > 0) {
		const struct sim_config *config = &checks->configs[number];
		if (!others_hold(sim, config, promise))
			return false;
		if (sim_config_committed(checks, number))
			return true;
		number = config->before; /* this one may be undone */
	}
	return true;
}

static bool is_borne(const struct sim *sim, const struct promise *promise)
{
	const struct sim_checks *checks = sim->checks;
	for (unsigned k = 0; k < sim_members(sim); k++) {
		const struct sim_watch *watch = &checks->members[k];
		const struct sim_log *log = sim->members[k].up ? &watch->log : &watch->shadow.log;
		if (!others_hold_in(sim, sim_entry(checks, sim_log_last(checks, log))->config, promise))
			return false;
	}
	return true;
}

static void forget(struct sim *sim, unsigned member, const struct sim_shadow *built)
{
	struct sim_watch *watch = &sim->checks->members[member];
	sim_durable_free(&watch->shadow);
	watch->shadow = *built;
	watch->forgotten++;
	if (watch->sent_term > built->term)
		watch->sent_term = built->term;
	if (watch->sent_vote_term > built->term ||
	    (watch->sent_vote_term == built->term && watch->sent_vote != built->vote))
		watch->sent_vote_term = watch->sent_vote = 0;
	sim_note(sim, "%u forgets its newest record: term %" PRIu64 " vote %" PRIu64 " last %" PRIu64 " are left",
		 member + 1, built->term, built->vote, built->log.last);
}

bool sim_durable_forget(struct sim *sim, unsigned member)
{
	const struct sim_checks *checks = sim->checks;
	const struct sim_watch *watch = &checks->members[member];
	const struct sim_shadow *shadow = &watch->shadow;
	struct sim_shadow built = {0};
	/* Something behind it proves that it was durable, or nothing was lost. Or what is left makes no log: of one that had begun anew
	 * with this record the segments in front are gone. That is damage, and every start says so. */
	if (!sim_durable_build(sim, member, &built) || built.sequence != shadow->sequence ||
	    built.flush + 1 != shadow->flush || sim_segments_begin(&built) > sim_snapshot_newest_good(&built)) {
		sim_durable_free(&built);
		return false;
	}
	uint32_t last = sim_log_last(checks, written(shadow));
	bool same = last == sim_log_last(checks, written(&built));
	bool voted = shadow->vote != 0 && (shadow->term != built.term || shadow->vote != built.vote);
	const struct promise promise = {
		.member = member, .entry = same ? 0 : last, .term = shadow->term, .vote = voted ? shadow->vote : 0};
	if (shadow->shrunk || watch->retired || !is_borne(sim, &promise)) {
		sim_durable_free(&built);
		return false;
	}
	forget(sim, member, &built);
	return true;
}
