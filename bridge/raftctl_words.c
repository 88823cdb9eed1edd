/*
 * Prints words in the grammar of the line protocol; see raftctl_words.h.
 */
#include "raftctl_words.h"

#include "line.h"
#include "raftctl.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>

int ctl_words_init(struct ctl_words *words, FILE *file)
{
	uint8_t *buf = malloc(LINE_QUOTED_SIZE_MAX(KV_VALUE_SIZE_MAX));
	if (buf == NULL) {
		(void)ctl_fail(CTL_FAILED, "out of memory");
		return -ENOMEM;
	}
	*words = (struct ctl_words){.file = file, .buf = buf};
	return 0;
}

void ctl_words_fini(struct ctl_words *words)
{
	free(words->buf);
	*words = (struct ctl_words){0};
}

void ctl_words_write(struct ctl_words *words, const uint8_t *data, size_t size)
{
	raft_assert(words->buf != NULL && size <= KV_VALUE_SIZE_MAX);
	size_t n = line_write_word(words->buf, data, size);
	raft_assert(n <= LINE_QUOTED_SIZE_MAX(KV_VALUE_SIZE_MAX));
	(void)fwrite(words->buf, 1, n, words->file);
}
