/*
 * A snapshot on its way to the disk: written here, or received from another member.
 *
 * Both fill one buffer with a part of the file while the disk writes the other: parts reach the disk whole, and of a
 * received snapshot only verified ones do.  When all are written the file is synced, then it gets its name and
 * the directory is synced, one job after the other: the disk goes on after a lack of room, and an incomplete file
 * must not be named.
 */
#include "daemon/storage/internal.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_received(const struct storage *storage, const struct snapshot_output *output)
{
	return output == &storage->outputs[SNAPSHOT_RECEIVED];
}

static const char *suffix_of(const struct storage *storage, const struct snapshot_output *output)
{
	return is_received(storage, output) ? SNAPSHOT_PART_SUFFIX : DISK_TEMPORARY_SUFFIX;
}

static void release(struct snapshot_output *output)
{
	for (unsigned b = 0; b < SNAPSHOT_BUFFERS; b++) {
		raft_assert(output->n_jobs == 0);
		free(output->buffers[b].data);
		output->buffers[b].data = NULL;
		output->buffers[b].used = 0;
	}
}

void outputs_release(struct storage *storage)
{
	for (unsigned i = 0; i < SNAPSHOT_OUTPUTS; i++) {
		storage->outputs[i].n_jobs = 0; /* the disk is closed */
		release(&storage->outputs[i]);
	}
}

static int reserve_buffers(struct snapshot_output *output)
{
	for (unsigned b = 0; b < SNAPSHOT_BUFFERS; b++) {
		if (!output->buffers[b].data)
			output->buffers[b].data = malloc(SNAPSHOT_BLOCK_SIZE);
		if (!output->buffers[b].data) {
			release(output);
			return -ENOMEM;
		}
	}
	return 0;
}

/* Jobs ------------------------------------------------------------------------------------------------ */

#define NO_BUFFER SNAPSHOT_BUFFERS

static bool submit(struct storage *storage, struct snapshot_output *output, struct disk_job *job, unsigned buffer)
{
	struct storage_background background = {.kind = BACKGROUND_OUTPUT,
						.output = is_received(storage, output) ? SNAPSHOT_RECEIVED
										       : SNAPSHOT_WRITTEN,
						.buffer = buffer};
	raft_assert(output->n_jobs < SNAPSHOT_BUFFERS);
	snapshots_name(job->name, output->index, suffix_of(storage, output));
	if (!background_submit(storage, &background, job))
		return false;
	output->n_jobs++;
	output->submitted = true;
	return true;
}

/* Hands the current buffer, which holds a whole part that ends at chain.offset, to the disk, and turns to the other. */
static void submit_part(struct storage *storage, struct snapshot_output *output)
{
	unsigned b = output->current;
	size_t size = output->buffers[b].used;
	raft_assert(size > 0 && !output->buffers[b].busy);
	struct disk_job job = {.type = DISK_JOB_STREAM,
			       .offset = output->parser.chain.offset - size,
			       .size = size,
			       .buf = output->buffers[b].data};
	if (!submit(storage, output, &job, b))
		return; /* the disk's error is kept, and final */
	output->buffers[b].busy = true;
	output->buffers[b].used = 0;
	output->current = (b + 1) % SNAPSHOT_BUFFERS;
}

static void give_up(struct snapshot_output *output, int result)
{
	output->result = result;
	output->step = STEP_CLEANING;
}

static void durable(struct storage *storage, struct snapshot_output *output)
{
	const struct snapshot_parser *parser = &output->parser;
	struct storage_snapshot snapshot = {.info = {.index = output->index,
						     .term = output->term,
						     .config_index = parser->header.config_index,
						     .config_size = parser->header.config_size,
						     .level = parser->header.level,
						     .payload_bytes = parser->chain.payload_bytes,
						     .file_bytes = parser->chain.offset}};
	snapshots_add(storage, &snapshot);
	if (storage->log_mark < output->log_mark)
		storage->log_mark = output->log_mark;
	output->step = STEP_NONE;
	output->result = 0;
	release(output);
}

/* What can be done now that it could not before. */
static void tend(struct storage *storage, struct snapshot_output *output)
{
	struct disk_job job = {.type = DISK_JOB_SYNC};
	struct storage_snapshot_info newest;
	if (output->step == STEP_FILLING && storage_snapshot_newest(storage, &newest) && output->index <= newest.index)
		give_up(output, 0); /* nobody wants it any more */
	uint8_t *buf = output->buffers[output->current].data;
	bool free_buffer = !output->buffers[output->current].busy;
	if (output->step == STEP_ENDING && !is_received(storage, output) && !output->parser.done && free_buffer) {
		if (output->buffers[output->current].used > 0) {
			size_t used = output->buffers[output->current].used;
			(void)snapshot_seal_block(&output->parser.chain, buf,
						  (uint32_t)(used - SNAPSHOT_BLOCK_HEADER_SIZE));
		} else {
			output->buffers[output->current].used = snapshot_encode_footer(&output->parser.chain, buf);
			output->parser.done = true;
		}
		submit_part(storage, output);
	}
	if (output->n_jobs > 0 || storage->error < 0)
		return;
	if (output->step == STEP_ENDING && output->parser.done) {
		output->step = STEP_SYNCING;
		(void)submit(storage, output, &job, NO_BUFFER);
	} else if (output->step == STEP_CLEANING && output->submitted) {
		output->step = STEP_REMOVING;
		job.type = DISK_JOB_REMOVE;
		(void)submit(storage, output, &job, NO_BUFFER);
	} else if (output->step == STEP_CLEANING) {
		output->step = STEP_NONE;
		release(output);
	}
}

void outputs_tend(struct storage *storage)
{
	for (unsigned i = 0; i < SNAPSHOT_OUTPUTS; i++) {
		struct snapshot_output *output = &storage->outputs[i];
		enum snapshot_step before;
		unsigned jobs;
		do {
			before = output->step;
			jobs = output->n_jobs;
			tend(storage, output);
		} while (storage->error == 0 && (output->step != before || output->n_jobs != jobs));
	}
}

void outputs_done(struct storage *storage, const struct storage_background *done, int error)
{
	struct snapshot_output *output = &storage->outputs[done->output];
	raft_assert(output->n_jobs > 0);
	output->n_jobs--;
	if (done->buffer != NO_BUFFER)
		output->buffers[done->buffer].busy = false;
	bool writes = output->step <= STEP_SYNCING || output->step == STEP_CLEANING;
	if (error < 0 && !(error == -ENOSPC && writes)) {
		if (storage->error == 0)
			storage->error = error;
		return;
	}
	if (error == -ENOSPC) {
		if (output->step != STEP_CLEANING)
			give_up(output, STORAGE_E_FULL);
	} else if (output->step == STEP_SYNCING) {
		struct disk_job job = {.type = DISK_JOB_RENAME};
		snapshots_name(job.new_name, output->index, "");
		output->step = STEP_NAMING;
		(void)submit(storage, output, &job, NO_BUFFER);
	} else if (output->step == STEP_NAMING) {
		durable(storage, output);
	} else if (output->step == STEP_REMOVING) {
		output->step = STEP_NONE;
		release(output);
	}
}

/* Both kinds ------------------------------------------------------------------------------------------ */

static int check_begin(const struct storage *storage, const struct snapshot_output *other, uint64_t index,
		       uint64_t term)
{
	struct storage_snapshot_info newest;
	if (storage->error < 0)
		return storage->error;
	if (storage->options.read_only)
		return -EROFS;
	if (index == 0 || term == 0 || (storage_snapshot_newest(storage, &newest) && index <= newest.index))
		return -EINVAL;
	return other->step != STEP_NONE && other->index == index ? STORAGE_E_BUSY : 0;
}

static int begin(struct storage *storage, struct snapshot_output *output, uint64_t index, uint64_t term)
{
	int r = snapshots_reserve(storage);
	if (r == 0)
		r = reserve_buffers(output);
	if (r < 0)
		return r;
	raft_assert(output->n_jobs == 0);
	output->step = STEP_FILLING;
	output->submitted = false;
	output->index = index;
	output->term = term;
	output->log_mark = storage->log_written;
	output->parser = (struct snapshot_parser){0};
	output->current = 0;
	return 0;
}

/* Whether it can be fed: 0, or why not. */
static int check_filling(const struct storage *storage, const struct snapshot_output *output)
{
	if (storage->error < 0)
		return storage->error;
	if (output->step == STEP_FILLING)
		return 0;
	return output->result == STORAGE_E_FULL ? STORAGE_E_FULL : -EINVAL;
}

static void progress(const struct snapshot_output *output, struct storage_snapshot_progress *ret_progress)
{
	*ret_progress = (struct storage_snapshot_progress){.result = output->result};
	if (output->step == STEP_NONE)
		return;
	ret_progress->index = output->index;
	ret_progress->offset = output->parser.chain.offset + output->buffers[output->current].used;
	ret_progress->waits = output->buffers[output->current].busy;
	if (output->step == STEP_FILLING)
		ret_progress->phase = STORAGE_SNAPSHOT_WRITING;
	else
		ret_progress->phase =
			output->step < STEP_CLEANING ? STORAGE_SNAPSHOT_FINISHING : STORAGE_SNAPSHOT_CLEANING;
}

static void abort_output(struct storage *storage, struct snapshot_output *output)
{
	if (output->step != STEP_FILLING && output->step != STEP_ENDING)
		return;
	give_up(output, 0);
	outputs_tend(storage);
}

/* Writing --------------------------------------------------------------------------------------------- */

int storage_snapshot_begin(struct storage *storage, const struct storage_snapshot_begin *what)
{
	struct snapshot_output *output = &storage->outputs[SNAPSHOT_WRITTEN];
	int r = check_begin(storage, &storage->outputs[SNAPSHOT_RECEIVED], what->index, what->term);
	if (r != 0)
		return r;
	if (what->config_size > SNAPSHOT_CONFIG_MAX || what->config_index > what->index)
		return -EINVAL;
	if (output->step != STEP_NONE)
		return STORAGE_E_BUSY;
	r = begin(storage, output, what->index, what->term);
	if (r < 0)
		return r;
	output->parser.header = (struct snapshot_header){.cluster_id = storage->identity.cluster_id,
							 .index = what->index,
							 .term = what->term,
							 .config_index = what->config_index,
							 .config_size = what->config_size,
							 .level = what->level,
							 .config = what->config};
	output->result = 0;
	output->buffers[0].used =
		snapshot_encode_header(&output->parser.chain, &output->parser.header, output->buffers[0].data);
	output->parser.header.config = NULL;
	submit_part(storage, output);
	return storage->error;
}

int storage_snapshot_write(struct storage *storage, const uint8_t *buf, size_t len, size_t *ret_taken)
{
	struct snapshot_output *output = &storage->outputs[SNAPSHOT_WRITTEN];
	size_t taken = 0;
	int r = check_filling(storage, output);
	if (r != 0)
		return r;
	while (taken < len && !output->buffers[output->current].busy && storage->error == 0) {
		uint8_t *data = output->buffers[output->current].data;
		size_t used = output->buffers[output->current].used;
		if (used == 0)
			used = SNAPSHOT_BLOCK_HEADER_SIZE;
		size_t n = len - taken < SNAPSHOT_BLOCK_SIZE - used ? len - taken : SNAPSHOT_BLOCK_SIZE - used;
		memcpy(data + used, buf + taken, n);
		taken += n;
		used += n;
		output->buffers[output->current].used = used;
		if (used == SNAPSHOT_BLOCK_SIZE) {
			(void)snapshot_seal_block(&output->parser.chain, data, SNAPSHOT_PAYLOAD_MAX);
			submit_part(storage, output);
		}
	}
	*ret_taken = taken;
	return storage->error;
}

int storage_snapshot_finish(struct storage *storage)
{
	struct snapshot_output *output = &storage->outputs[SNAPSHOT_WRITTEN];
	int r = check_filling(storage, output);
	if (r != 0)
		return r;
	output->step = STEP_ENDING;
	outputs_tend(storage);
	return storage->error;
}

void storage_snapshot_abort(struct storage *storage)
{
	abort_output(storage, &storage->outputs[SNAPSHOT_WRITTEN]);
}

void storage_snapshot_written(const struct storage *storage, struct storage_snapshot_progress *ret_progress)
{
	progress(&storage->outputs[SNAPSHOT_WRITTEN], ret_progress);
}

/* Receiving ------------------------------------------------------------------------------------------- */

int storage_receive_begin(struct storage *storage, uint64_t index, uint64_t term, uint64_t *ret_offset)
{
	struct snapshot_output *output = &storage->outputs[SNAPSHOT_RECEIVED];
	int r = check_begin(storage, &storage->outputs[SNAPSHOT_WRITTEN], index, term);
	if (r != 0)
		return r;
	if (output->step == STEP_FILLING && (output->index != index || output->term != term))
		abort_output(storage, output);
	if (output->step == STEP_FILLING) {
		r = reserve_buffers(output);
		if (r == 0)
			r = snapshots_reserve(storage);
		output->log_mark = storage->log_written;
	} else if (output->step == STEP_NONE) {
		r = begin(storage, output, index, term);
	} else {
		return STORAGE_E_BUSY;
	}
	if (r < 0)
		return r;
	output->result = 0;
	*ret_offset = output->parser.chain.offset + output->buffers[output->current].used;
	return 0;
}

/* Looks at what the current buffer holds of a part. *ret_size: the part's, or at least so much of it. */
static enum snapshot_result look_at_part(const struct storage *storage, struct snapshot_output *output,
					 size_t *ret_size)
{
	struct snapshot_parser parser = output->parser;
	struct snapshot_found found = {.size = 0};
	enum snapshot_result result = snapshot_parse(&parser, output->buffers[output->current].data,
						     output->buffers[output->current].used, &found);
	if (result == SNAPSHOT_OK && (parser.header.cluster_id != storage->identity.cluster_id ||
				      parser.header.index != output->index || parser.header.term != output->term))
		return SNAPSHOT_BAD;
	if (result == SNAPSHOT_OK && parser.header.level > storage_level_max(storage))
		return SNAPSHOT_NEWER;
	if (result == SNAPSHOT_OK)
		output->parser = parser;
	*ret_size = found.size;
	return result;
}

/* Adds bytes up to the end of a part, or of what is known of it. Returns the parser's result. */
static enum snapshot_result take_bytes(struct storage *storage, struct snapshot_output *output, const uint8_t *buf,
				       size_t len, size_t *ret_taken)
{
	size_t used = output->buffers[output->current].used;
	size_t wanted = 0;
	enum snapshot_result result = look_at_part(storage, output, &wanted);
	raft_assert(result == SNAPSHOT_MORE && wanted > used && wanted <= SNAPSHOT_BLOCK_SIZE);
	size_t n = wanted - used < len ? wanted - used : len;
	memcpy(output->buffers[output->current].data + used, buf, n);
	output->buffers[output->current].used += n;
	*ret_taken = n;
	return look_at_part(storage, output, &wanted);
}

int storage_receive_write(struct storage *storage, uint64_t offset, const uint8_t *buf, size_t len, size_t *ret_taken)
{
	struct snapshot_output *output = &storage->outputs[SNAPSHOT_RECEIVED];
	size_t taken = 0;
	int r = check_filling(storage, output);
	if (r != 0)
		return r;
	if (!output->buffers[0].data || /* found at the start, and not resumed yet */
	    offset != output->parser.chain.offset + output->buffers[output->current].used)
		return -EINVAL;
	while (taken < len && storage->error == 0 && !output->buffers[output->current].busy) {
		size_t n = 0;
		if (output->parser.done)
			r = SNAPSHOT_BAD; /* bytes behind the footer */
		else
			r = (int)take_bytes(storage, output, buf + taken, len - taken, &n);
		taken += n;
		if (r == SNAPSHOT_OK)
			submit_part(storage, output);
		if (r == SNAPSHOT_BAD || r == SNAPSHOT_NEWER) {
			r = r == SNAPSHOT_BAD ? STORAGE_E_CORRUPT : STORAGE_E_VERSION;
			give_up(output, r);
			outputs_tend(storage);
			return r;
		}
	}
	if (output->parser.done) {
		output->step = STEP_ENDING;
		outputs_tend(storage);
	}
	*ret_taken = taken;
	return storage->error;
}

void storage_receive_abort(struct storage *storage)
{
	struct snapshot_output *output = &storage->outputs[SNAPSHOT_RECEIVED];
	if (output->step == STEP_FILLING)
		abort_output(storage, output);
}

void storage_received(const struct storage *storage, struct storage_snapshot_progress *ret_progress)
{
	progress(&storage->outputs[SNAPSHOT_RECEIVED], ret_progress);
}
