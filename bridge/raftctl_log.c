/*
 * raftctl log: a member's log in words, one entry a line, asked of the running member or read from the data directory
 * of a stopped one:
 *
 *     INDEX TERM TIME SESSION:SEQUENCE put KEY SIZE
 *
 * with "-" where an entry has no session, and the value instead of its size when --values is given. Entries are
 * printed as they are read; those that are not committed yet may be replaced later.
 */
#include "raftctl.h"
#include "raftctl_call.h"
#include "raftctl_data.h"
#include "raftctl_words.h"

#include "daemon/assert.h"
#include "daemon/storage/storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of one page. */
#define PAGE_ENTRIES_MAX 4096u
#define PAGE_BYTES_MAX (1024u * 1024u)

struct log_view {
	struct ctl_words words;
	bool values;
	uint64_t next, last; /* what is still to be printed */
};

/* One entry ------------------------------------------------------------------------------------------- */

static void print_time(FILE *file, uint64_t time_ms)
{
	time_t seconds = (time_t)(time_ms / 1000u);
	struct tm tm;
	char text[64];
	if (gmtime_r(&seconds, &tm) == NULL || strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		(void)fprintf(file, "%" PRIu64 "ms", time_ms); /* beyond the calendar */
	else
		(void)fprintf(file, "%s.%03uZ", text, (unsigned)(time_ms % 1000u));
}

static void print_value(struct log_view *view, const struct kv_command *command)
{
	if (view->values)
		ctl_words_write(&view->words, command->value, command->value_size);
	else
		(void)fprintf(view->words.file, "%" PRIu32, command->value_size);
}

static void print_command(struct log_view *view, const struct kv_command *command)
{
	FILE *file = view->words.file;
	if (command->operation == KV_REGISTER)
		(void)fprintf(file, "- register %016" PRIx64, command->expected);
	else
		(void)fprintf(file, "%" PRIu64 ":%" PRIu64 " %s", command->session, command->sequence,
			      kv_operation_name(command->operation));
	if (command->key_size > 0) {
		(void)fputc(' ', file);
		ctl_words_write(&view->words, command->key, command->key_size);
	}
	if (command->operation == KV_CAS)
		(void)fprintf(file, " %" PRIu64, command->expected);
	if (command->operation == KV_PUT || command->operation == KV_CAS) {
		(void)fputc(' ', file);
		print_value(view, command);
	}
}

static void print_entry(struct log_view *view, uint64_t index, const struct raft_entry *entry)
{
	FILE *file = view->words.file;
	struct kv_command command;
	(void)fprintf(file, "%" PRIu64 " %" PRIu64 " ", index, entry->term);
	print_time(file, entry->time_ms);
	(void)fputc(' ', file);
	if (entry->type == RAFT_ENTRY_NOOP)
		(void)fputs("- leader", file);
	else if (entry->type == RAFT_ENTRY_CONFIG)
		(void)fprintf(file, "- members %" PRIu32, entry->size);
	else if (entry->type != RAFT_ENTRY_COMMAND)
		(void)fprintf(file, "- unknown-type-%u %" PRIu32, entry->type, entry->size);
	else if (kv_command_decode(entry->data, entry->size, &command) != KV_DECODE_OK)
		(void)fprintf(file, "- undecodable %" PRIu32, entry->size);
	else
		print_command(view, &command);
	(void)fputc('\n', file);
	view->next = index + 1;
}

/* --from and --to within what there is. False: nothing is left. */
static bool choose_range(struct log_view *view, const struct ctl_options *options, uint64_t first, uint64_t last)
{
	view->next = options->from > first ? options->from : first;
	view->last = options->to != 0 && options->to < last ? options->to : last;
	return view->next <= view->last;
}

/* Of a running member --------------------------------------------------------------------------------- */

static int ask(struct ctl *ctl, struct ctl_call *call, const struct ctl_question *question,
	       struct kv_answer_body *ret_answer)
{
	call->deadline_us = ctl_now_us() + (uint64_t)ctl->options.timeout_ms * 1000u;
	int code = ctl_call_any(call, question, ret_answer);
	if (code == CTL_OK && ret_answer->answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(ret_answer->answer));
	return code;
}

/* Prints one page of what a member sent. False: it makes no sense. */
static bool print_page(struct log_view *view, struct kv_log_page *page)
{
	struct kv_log_item item;
	if (page->count == 0 || page->first < view->next)
		return false;
	while (kv_log_item_decode(page, &item)) {
		if (item.index < view->next || item.size > RAFT_ENTRY_SIZE_MAX)
			return false;
		struct raft_entry entry = {.term = item.term,
					   .time_ms = item.time_ms,
					   .type = item.type,
					   .size = item.size,
					   .data = item.data};
		if (item.index <= view->last)
			print_entry(view, item.index, &entry);
		else
			view->next = item.index;
	}
	return page->entries_size == 0;
}

static int log_of_member(struct ctl *ctl, struct ctl_call *call, struct log_view *view)
{
	struct ctl_question question = {.type = KV_REQUEST_STATUS};
	struct kv_answer_body answer;
	struct kv_member_status status;
	int code = ask(ctl, call, &question, &answer);
	if (code != CTL_OK)
		return code;
	if (!kv_status_decode(answer.data, answer.size, &status))
		return ctl_fail(CTL_FAILED, "the member sent a status that cannot be read");
	if (!choose_range(view, &ctl->options, status.first, status.last))
		return CTL_OK;
	while (view->next <= view->last && ferror(stdout) == 0) {
		uint8_t body[KV_LOG_BODY_SIZE];
		uint64_t left = view->last - view->next + 1;
		kv_log_encode(body, view->next, left < PAGE_ENTRIES_MAX ? (uint32_t)left : PAGE_ENTRIES_MAX);
		question = (struct ctl_question){.type = KV_REQUEST_LOG, .body = body, .size = sizeof body};
		code = ask(ctl, call, &question, &answer);
		if (code != CTL_OK)
			return code;
		struct kv_log_page page;
		bool good = kv_log_page_decode(answer.data, answer.size, &page);
		if (good && page.count == 0 && page.last < view->next)
			break; /* the end was replaced meanwhile by a shorter one */
		if (!good || !print_page(view, &page))
			return ctl_fail(CTL_FAILED, "the member sent a page that cannot be read");
	}
	return CTL_OK;
}

static int log_by_id(struct ctl *ctl, struct log_view *view)
{
	struct ctl_links links;
	struct ctl_call call = {.links = &links};
	int code = CTL_FAILED;
	if (ctl_links_open(&ctl->config, ctl->options.id, &links) == 0)
		code = log_of_member(ctl, &call, view);
	ctl_links_close(&links);
	return code;
}

/* Of a stopped member --------------------------------------------------------------------------------- */

static int print_stored(struct log_view *view, struct storage *storage)
{
	struct raft_entry *entries = malloc(PAGE_ENTRIES_MAX * sizeof *entries);
	if (entries == NULL)
		return ctl_fail(CTL_FAILED, "out of memory");
	int code = CTL_OK;
	while (code == CTL_OK && view->next <= view->last && ferror(stdout) == 0) {
		uint64_t left = view->last - view->next + 1;
		uint32_t n = 0;
		uint64_t first = view->next;
		int r = storage_read(storage, first, left < PAGE_ENTRIES_MAX ? (uint32_t)left : PAGE_ENTRIES_MAX,
				     PAGE_BYTES_MAX, entries, &n);
		if (r != 0 || n == 0)
			code = ctl_fail(CTL_FAILED, "cannot read entry %" PRIu64 ": %s", first,
					r < 0 ? strerror(-r) : storage_result_name(r));
		for (uint32_t k = 0; code == CTL_OK && k < n; k++)
			print_entry(view, first + k, &entries[k]);
	}
	free(entries);
	return code;
}

static int log_by_directory(struct ctl *ctl, struct log_view *view)
{
	struct storage *storage;
	struct storage_state state;
	uint64_t id = ctl_data_owner(ctl);
	if (id == 0)
		return CTL_USAGE;
	int code = ctl_data_open(ctl, ctl->options.data, id, &storage, &state);
	if (code != CTL_OK)
		return code;
	if (state.torn_bytes > 0)
		(void)ctl_fail(CTL_OK, "%" PRIu64 " bytes at the end (%s) are of a write that was never completed",
			       state.torn_bytes, state.torn_where);
	if (choose_range(view, &ctl->options, state.base_index + 1, state.last_index))
		code = print_stored(view, storage);
	storage_free(storage);
	return code;
}

int ctl_log(struct ctl *ctl)
{
	struct log_view view = {.values = ctl->options.values};
	if (ctl->options.id == 0 && ctl->options.data == NULL)
		return ctl_fail(CTL_USAGE, "log shows what one member has: --id N or --data DIR says which");
	if (ctl->options.to != 0 && ctl->options.to < ctl->options.from)
		return ctl_fail(CTL_USAGE, "--to is before --from");
	if (ctl_words_init(&view.words, stdout) < 0)
		return CTL_FAILED;
	int code = ctl->options.data != NULL ? log_by_directory(ctl, &view) : log_by_id(ctl, &view);
	ctl_words_fini(&view.words);
	return code;
}
