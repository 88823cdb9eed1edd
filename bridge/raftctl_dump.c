/*
 * raftctl dump: the store of one member, in key order, as put commands of the line protocol.
 *
 * A dump is of one state: the member keeps that of the first page while it goes on with its work, and every page names
 * it. When the member could not keep it, or was started again, all is read again. Nothing is printed before it is
 * complete.
 */
#include "raftctl.h"
#include "raftctl_call.h"
#include "raftctl_words.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* So many attempts are always made; more only within the timeout. */
#define TRIES_MIN 5u

struct dump {
	struct ctl_call call;
	uint32_t timeout_ms; /* for each page */
	bool revisions;
	struct ctl_words words; /* into a temporary file */
	bool begun;
	bool more;
	uint64_t applied, hash;	      /* of the first page */
	uint8_t key[KV_KEY_SIZE_MAX]; /* the last one */
	size_t key_size;
};

static void write_item(struct dump *dump, const struct kv_item *item)
{
	if (dump->revisions)
		(void)fprintf(dump->words.file, "%llu ", (unsigned long long)item->revision);
	(void)fputs("put ", dump->words.file);
	ctl_words_write(&dump->words, item->key, item->key_size);
	(void)fputc(' ', dump->words.file);
	ctl_words_write(&dump->words, item->value, item->value_size);
	(void)fputc('\n', dump->words.file);
}

/* Writes the page's items. False: it does not hold what it says. */
static bool write_page(struct dump *dump, struct kv_dump_page *page)
{
	uint32_t n = 0;
	struct kv_item item;
	while (kv_dump_item_decode(page, &item)) {
		if (item.key_size > KV_KEY_SIZE_MAX || item.value_size > KV_VALUE_SIZE_MAX)
			return false;
		write_item(dump, &item);
		memcpy(dump->key, item.key, item.key_size);
		dump->key_size = item.key_size;
		n++;
	}
	return page->items_size == 0 && (n > 0 || !page->more);
}

/* Fetches and writes one page. CTL_OK: *ret_changed says whether the state of the first one is gone. */
static int take_page(struct dump *dump, bool *ret_changed)
{
	uint8_t body[KV_DUMP_BODY_SIZE(KV_KEY_SIZE_MAX)];
	const struct kv_dump_request request = {.flags = dump->begun ? KV_DUMP_AFTER : 0,
						.applied = dump->begun ? dump->applied : 0,
						.key = dump->key,
						.key_size = dump->key_size};
	kv_dump_encode(body, &request);
	struct ctl_question question = {
		.type = KV_REQUEST_DUMP, .body = body, .size = KV_DUMP_BODY_SIZE(dump->key_size)};
	struct kv_answer_body answer;
	struct kv_dump_page page;
	dump->call.deadline_us = ctl_now_us() + (uint64_t)dump->timeout_ms * 1000u;
	int code = ctl_call_any(&dump->call, &question, &answer);
	if (code != CTL_OK)
		return code;
	*ret_changed = dump->begun && answer.answer == KV_ANSWER_NOT_FOUND;
	if (*ret_changed)
		return CTL_OK;
	if (answer.answer != KV_ANSWER_OK)
		return ctl_fail(CTL_FAILED, "refused: %s", ctl_answer_name(answer.answer));
	if (!kv_dump_page_decode(answer.data, answer.size, &page))
		return ctl_fail(CTL_FAILED, "the member sent a page that cannot be read");
	*ret_changed = dump->begun && (page.applied != dump->applied || page.hash != dump->hash);
	if (*ret_changed)
		return CTL_OK;
	dump->begun = true;
	dump->applied = page.applied;
	dump->hash = page.hash;
	dump->more = page.more;
	return write_page(dump, &page) ? CTL_OK : ctl_fail(CTL_FAILED, "the member sent a page that cannot be read");
}

/* One attempt from the beginning; the file is empty. CTL_OK: *ret_changed says whether it was in vain. */
static int take_all(struct dump *dump, bool *ret_changed)
{
	dump->begun = false;
	dump->key_size = 0;
	do {
		int code = take_page(dump, ret_changed);
		if (code != CTL_OK || *ret_changed)
			return code;
	} while (dump->more);
	return CTL_OK;
}

static int retry_all(struct dump *dump)
{
	uint64_t end_us = ctl_now_us() + (uint64_t)dump->timeout_ms * 1000u;
	unsigned tries = 0;
	while (tries < TRIES_MIN || ctl_now_us() < end_us) {
		bool changed = false;
		FILE *file = tmpfile();
		if (file == NULL)
			return ctl_fail(CTL_FAILED, "no temporary file: %s", strerror(errno));
		if (dump->words.file != NULL)
			(void)fclose(dump->words.file); /* of an attempt in vain */
		dump->words.file = file;
		int code = take_all(dump, &changed);
		if (code != CTL_OK || !changed)
			return code;
		tries++;
	}
	return ctl_fail(
		CTL_FAILED,
		"the member did not keep its state long enough: %u attempts; try again when there is less to do",
		tries);
}

static int print_file(FILE *file)
{
	char buf[65536];
	if (fflush(file) != 0 || ferror(file) != 0 || fseek(file, 0, SEEK_SET) != 0)
		return ctl_fail(CTL_FAILED, "the temporary file failed: %s", strerror(errno));
	for (;;) {
		size_t n = fread(buf, 1, sizeof buf, file);
		if (n == 0)
			break;
		if (fwrite(buf, 1, n, stdout) != n)
			return CTL_OK; /* main says so */
	}
	return ferror(file) == 0 ? CTL_OK : ctl_fail(CTL_FAILED, "the temporary file failed: %s", strerror(errno));
}

int ctl_dump(struct ctl *ctl)
{
	struct ctl_links links;
	struct dump dump = {.timeout_ms = ctl->options.timeout_ms, .revisions = ctl->options.revisions};
	if (ctl->options.id == 0)
		return ctl_fail(CTL_USAGE, "dump shows what one member has: --id N says which");
	if (ctl_words_init(&dump.words, NULL) < 0)
		return CTL_FAILED;
	int code = CTL_FAILED;
	dump.call.links = &links;
	if (ctl_links_open(&ctl->config, ctl->options.id, &links) == 0)
		code = retry_all(&dump);
	if (code == CTL_OK)
		code = print_file(dump.words.file);
	if (dump.words.file != NULL)
		(void)fclose(dump.words.file); /* temporary */
	ctl_words_fini(&dump.words);
	ctl_links_close(&links);
	return code;
}
