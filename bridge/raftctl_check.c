/* raftctl check: verifies every byte of a stopped member's directory, and changes nothing. */
#include "raftctl.h"
#include "raftctl_data.h"

#include "daemon/storage/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void print_finding(void *arg, enum storage_finding finding, const char *file, uint64_t offset, const char *what)
{
	(void)arg;
	printf("%s %s at byte %" PRIu64 ": %s\n", finding == STORAGE_FINDING_DAMAGE ? "DAMAGED" : "note", file, offset,
	       what);
}

int ctl_check(struct ctl *ctl)
{
	struct storage_check check = {.report = print_finding};
	struct disk *disk;
	if (ctl->options.data == NULL)
		return ctl_fail(CTL_USAGE, "--data says which directory");
	if (ctl_data_is_in_use(ctl->options.data))
		return CTL_FAILED;
	int r = disk_posix_open_readonly(ctl->options.data, &disk);
	if (r < 0)
		return ctl_fail(CTL_FAILED, "cannot open %s: %s", ctl->options.data, strerror(-r));
	r = storage_check(disk, &check);
	disk->ops->close(disk);
	if (r < 0)
		return ctl_fail(CTL_FAILED, "cannot read %s: %s", ctl->options.data, strerror(-r));
	printf("%" PRIu64 " bytes in %" PRIu64 " segments and %" PRIu64 " good snapshots; ", check.bytes,
	       check.segments, check.snapshots);
	if (check.last_index > check.base_index)
		printf("the log has entries %" PRIu64 " to %" PRIu64 "\n", check.base_index + 1, check.last_index);
	else
		printf("the log is empty after entry %" PRIu64 "\n", check.base_index);
	if (r == 0) {
		printf("nothing is damaged\n");
		return CTL_OK;
	}
	return ctl_fail(CTL_NEGATIVE,
			"%" PRIu64 " damaged places: keep a copy, empty the directory, and start the member: it gets "
			"everything from the others",
			check.damages);
}
