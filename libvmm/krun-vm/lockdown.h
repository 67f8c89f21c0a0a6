#pragma once

// From here on no program is started and no memory becomes executable: all code is loaded. Comes on top of
// the launcher's filter. 0 or a negative errno.
int lockdown(void);
