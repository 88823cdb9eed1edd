/*
 * An operator copies a member's directory, as a power cut would leave it, and the copy comes to harm: files are lost, exchanged,
 * cut, belong to somebody else, are of a newer version, a disk fails at any operation. Then it is checked, as `raftctl check` does,
 * and opened, as a member's start does. Whatever is done to a copy, the cluster does not notice.
 *
 * Nothing may be forgotten silently: a copy either opens with all that the member had promised and all of its log, or is refused for
 * what is wrong with it, and then nothing in it was changed.
 */
#include "copies.h"

#include "daemon/assert.h"
#include "daemon/storage/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define EXPERIMENTS 12u
#define AIMED_STREAM UINT64_C(0x636f706965732e61)
#define DEATHS_STREAM UINT64_C(0x636f706965732e64)
#define ENTRIES_AT_ONCE 256u
#define ENTRIES_BYTES (1u << 20)

/* Opening ---------------------------------------------------------------------------------------------- */

/* What a start found. */
struct opened {
	int result;
	char message[STORAGE_MESSAGE_MAX];
	struct storage_state state;
	uint64_t *entries; /* hashes of those from base_index + 1 to last_index */
};

static void read_entries(const struct sim *sim, struct storage *storage, struct opened *opened)
{
	static struct raft_entry entries[ENTRIES_AT_ONCE];
	const struct storage_state *state = &opened->state;
	opened->entries = calloc(state->last_index - state->base_index + 1, sizeof *opened->entries);
	raft_assert(opened->entries != NULL);
	for (uint64_t index = state->base_index + 1; index <= state->last_index;) {
		uint32_t n = 0;
		int r = storage_read(storage, index, ENTRIES_AT_ONCE, ENTRIES_BYTES, entries, &n);
		if (r != 0)
			sim_fail(sim, "a copy of a directory opens, and entry %" PRIu64 " cannot be read: %d", index,
				 r);
		for (uint32_t k = 0; k < n; k++)
			opened->entries[index++ - state->base_index - 1] = XXH3_64bits_withSeed(
				entries[k].data, entries[k].size, entries[k].term << 8 | entries[k].type);
	}
}

static void open_copy(const struct sim *sim, struct copy *copy, const struct storage_options *options,
		      struct opened *ret)
{
	struct storage *storage = NULL;
	*ret = (struct opened){.result = 0};
	ret->result = storage_open(&copy->base, options, &storage, &ret->state, ret->message);
	if (ret->result == 0 && copy->fails_at == 0)
		read_entries(sim, storage, ret);
	storage_free(storage);
	copy->n_done = 0;
}

/* All that was promised, and the log as far as both have it: what a snapshot covers may be gone. */
static bool is_same(const struct opened *one, const struct opened *other)
{
	const struct storage_state *a = &one->state, *b = &other->state;
	if (a->term != b->term || a->vote != b->vote || a->last_index != b->last_index ||
	    a->incarnation != b->incarnation)
		return false;
	uint64_t base = a->base_index > b->base_index ? a->base_index : b->base_index;
	for (uint64_t index = base + 1; index <= a->last_index; index++)
		if (one->entries[index - a->base_index - 1] != other->entries[index - b->base_index - 1])
			return false;
	return true;
}

static void report(void *arg, enum storage_finding finding, const char *file, uint64_t offset, const char *what)
{
	(void)arg, (void)finding, (void)file, (void)offset, (void)what;
}

/* Experiments ------------------------------------------------------------------------------------------ */

static _Noreturn void fail(const struct experiment *experiment, const char *what, const struct opened *opened)
{
	sim_fail(experiment->sim, "a copy of member %u's directory, %s: %s; opening it says %d: %s",
		 experiment->member + 1, experiment->what, what, opened->result, opened->message);
}

static bool ask(void *arg, const uint8_t *config, uint32_t size, bool in_snapshot)
{
	const struct experiment *experiment = arg;
	(void)config, (void)size, (void)in_snapshot;
	return experiment->may_give_up;
}

/* No segment is lost: each is still there, under its own name or another. */
static void check_kept(const struct experiment *experiment, const struct copy *before, const struct copy *after,
		       const struct opened *opened)
{
	for (size_t k = 0; k < before->n_files; k++) {
		const char *name = before->files[k].name;
		size_t length = strlen(name);
		bool found = strncmp(name, "segment-", strlen("segment-")) != 0;
		for (size_t i = 0; i < after->n_files && !found; i++) {
			const char *now = after->files[i].name;
			found = strncmp(now, name, length) == 0 &&
				(now[length] == '\0' || strncmp(now + length, ".damaged-", strlen(".damaged-")) == 0);
		}
		if (!found)
			fail(experiment, "a segment is gone", opened);
	}
}

/* What a start that ended in the middle left opens with all that there was, or as a blank directory, everything having been set
 * aside. */
static bool is_whole_or_blank(const struct experiment *experiment, const struct storage_options *options,
			      const struct opened *opened)
{
	const struct storage_state *state = &opened->state;
	bool is_blank = state->incarnation == options->incarnation && state->aside && state->term == 0 &&
			state->last_index == 0 && state->snapshot_index == 0;
	return opened->result == 0 && (is_blank || is_same(opened, experiment->whole));
}

/* The power goes behind one of the changes that healing makes to the directory. What is left is damaged still, or as good as it was
 * before the damage: never a log that only ends too early. The next start heals the rest. */
static void die_while_healing(struct experiment *experiment, const struct copy *damaged,
			      const struct storage_options *options)
{
	struct storage_options careful = *options;
	struct storage_check check = {.report = report};
	struct copy left;
	struct opened opened;
	careful.heal = NULL;
	experiment->may_give_up = true;
	copy_of(&left, damaged);
	left.last_job = 1 + sim_random_below(&experiment->deaths, damaged->n_files);
	open_copy(experiment->sim, &left, options, &opened);
	if (opened.result > 0)
		fail(experiment, "its disk fails while it heals, and that passes for damage", &opened);
	free(opened.entries);
	left.last_job = 0;
	left.failed = false;
	check_kept(experiment, damaged, &left, &opened);
	int checked = storage_check(&left.base, &check);
	open_copy(experiment->sim, &left, &careful, &opened);
	if (opened.result != STORAGE_E_CORRUPT && !is_whole_or_blank(experiment, options, &opened))
		fail(experiment, "it dies while it heals, and is wrong then", &opened);
	if (opened.result == STORAGE_E_CORRUPT && checked == 0)
		fail(experiment, "it dies while it heals, and the check finds nothing then", &opened);
	free(opened.entries);
	open_copy(experiment->sim, &left, options, &opened);
	if (!is_whole_or_blank(experiment, options, &opened))
		fail(experiment, "it dies while it heals, and heals wrongly then", &opened);
	check_kept(experiment, damaged, &left, &opened);
	free(opened.entries);
	copy_fini(&left);
}

/* The member may set aside what is damaged. Afterwards it is a good one, of the same member or of a new one. */
static void heal(struct experiment *experiment)
{
	struct storage_options options = experiment->options;
	const struct storage_heal how = {.may_give_up = ask, .arg = experiment};
	struct copy before;
	struct opened opened, again;
	copy_of(&before, &experiment->copy);
	options.heal = &how;
	options.incarnation++;
	experiment->may_give_up = sim_random_below(&experiment->random, 4) != 0;
	open_copy(experiment->sim, &experiment->copy, &options, &opened);
	if (opened.result != 0 && (experiment->may_give_up || opened.result != STORAGE_E_CORRUPT))
		fail(experiment, "it does not heal", &opened);
	if (opened.result == 0 && (opened.state.healed[0] == '\0' || !opened.state.aside ||
				   (opened.state.gave_up ? !opened.state.blank : !is_same(&opened, experiment->whole))))
		fail(experiment, "it is healed wrongly", &opened);
	check_kept(experiment, &before, &experiment->copy, &opened);
	if (opened.result == 0) {
		open_copy(experiment->sim, &experiment->copy, &options, &again);
		if (again.result != 0 || again.state.healed[0] != '\0' || !is_same(&again, &opened))
			fail(experiment, "it is not healed for good", &again);
		free(again.entries);
	}
	free(opened.entries);
	if (experiment->may_die)
		die_while_healing(experiment, &before, &options);
	copy_fini(&before);
}

static void conclude(struct experiment *experiment)
{
	struct storage_check check = {.report = report};
	struct copy before;
	struct opened opened;
	copy_of(&before, &experiment->copy);
	int checked = storage_check(&experiment->copy.base, &check);
	open_copy(experiment->sim, &experiment->copy, &experiment->options, &opened);
	bool judged = !experiment->is_nonsense;
	if (experiment->is_damaged && checked != STORAGE_E_CORRUPT)
		fail(experiment, "the check finds nothing", &opened);
	if (experiment->expected != ANYTHING && opened.result != experiment->expected)
		fail(experiment, "something else is expected", &opened);
	if (judged && opened.result != 0 && opened.result != STORAGE_E_CORRUPT && opened.result != experiment->expected)
		fail(experiment, "it is refused for something else", &opened);
	if (judged && opened.result == 0 && !is_same(&opened, experiment->whole))
		fail(experiment, "it opens, and has forgotten something", &opened);
	if (judged && opened.result == 0 && opened.state.snapshot_index > experiment->whole->state.snapshot_index)
		fail(experiment, "it starts from a snapshot that there never was", &opened);
	if (judged && opened.result == STORAGE_E_CORRUPT && checked == 0)
		fail(experiment, "the check has found nothing", &opened);
	if (opened.result > 0 && opened.result != STORAGE_E_FULL && !copy_equals(&before, &experiment->copy))
		fail(experiment, "it is refused, and is another one now", &opened);
	sim_note(experiment->sim, "a copy of %u's directory, %s: %d", experiment->member + 1, experiment->what,
		 opened.result);
	if (judged && opened.result == STORAGE_E_CORRUPT)
		heal(experiment);
	experiment->sim->counts.copies_refused += opened.result != 0;
	free(opened.entries);
	copy_fini(&before);
}

/* The disk fails at one operation of the start, or has no room. Nothing is worse afterwards. */
static void conclude_failing(struct experiment *experiment)
{
	struct opened opened, again;
	struct storage_check check = {.report = report};
	int checked = storage_check(&experiment->copy.base, &check);
	if (checked == 0 && experiment->copy.fails_at != 0 && experiment->copy.operations >= experiment->copy.fails_at)
		sim_fail(experiment->sim, "a check of a copy that cannot be read finds nothing");
	experiment->copy.operations = 0;
	open_copy(experiment->sim, &experiment->copy, &experiment->options, &opened);
	if (opened.result > 0 && opened.result != STORAGE_E_FULL)
		fail(experiment, "an error passes for damage", &opened);
	experiment->copy.fails_at = 0;
	experiment->copy.failed = experiment->copy.full = false;
	open_copy(experiment->sim, &experiment->copy, &experiment->options, &again);
	bool is_empty = again.state.last_index == 0 && again.state.term == 0 && again.state.snapshot_index == 0;
	if (again.result != 0 || (experiment->begins ? !is_empty : !is_same(&again, experiment->whole)))
		fail(experiment, "it does not open when the disk is well again", &again);
	sim_note(experiment->sim, "a copy of %u's directory, %s: %d", experiment->member + 1, experiment->what,
		 opened.result);
	free(opened.entries);
	free(again.entries);
}

static void visit(void *arg, const char *name, const uint8_t *bytes, uint64_t size)
{
	(void)copy_put(arg, name, bytes, size);
}

/* Harms a copy and looks at what becomes of it. */
static void try(struct experiment *experiment, const struct copy *original, bool (*harm)(struct experiment *))
{
	copy_of(&experiment->copy, original);
	experiment->expected = ANYTHING;
	experiment->is_damaged = experiment->begins = experiment->is_nonsense = experiment->may_die = false;
	experiment->options = sim_storage_options(experiment->sim, experiment->member);
	experiment->options.level_max = SIM_LEVEL_MAX;
	if (harm(experiment)) {
		if (experiment->copy.fails_at != 0 || experiment->copy.full)
			conclude_failing(experiment);
		else
			conclude(experiment);
	}
	copy_fini(&experiment->copy);
}

int sim_operator_copy(struct sim *sim, unsigned number, uint64_t seed)
{
	struct sim_member *member = &sim->members[number];
	struct experiment experiment = {
		.sim = sim, .member = number, .random = {seed}, .deaths = {seed ^ DEATHS_STREAM}};
	struct copy original, opening;
	struct opened whole;
	if (member->absent || sim_platter_excused(member->disk_files))
		return 0;
	experiment.options = sim_storage_options(sim, number);
	experiment.options.level_max = SIM_LEVEL_MAX;
	copy_init(&original);
	sim_platter_each(member->disk_files, visit, &original);
	copy_of(&opening, &original);
	open_copy(sim, &opening, &experiment.options, &whole);
	if (whole.result != 0)
		sim_fail(sim, "a copy of member %u's directory does not open: %d %s", number + 1, whole.result,
			 whole.message);
	experiment.whole = &whole;
	for (unsigned k = 0; k < EXPERIMENTS; k++)
		try(&experiment, &original, sim_copy_harm);
	experiment.random = (struct sim_random){seed ^ AIMED_STREAM};
	try(&experiment, &original, sim_copy_misplace);
	try(&experiment, &original, sim_copy_lose_newest_header);
	try(&experiment, &original, sim_copy_leave_rotten_snapshot);
	try(&experiment, &original, sim_copy_end_before_rotten_snapshot);
	try(&experiment, &original, sim_copy_leave_snapshots);
	free(whole.entries);
	copy_fini(&opening);
	copy_fini(&original);
	return 1;
}
