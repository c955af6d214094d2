/* The parent's two sockets: one asks and is answered, the other is told of packets and digests. */
#ifndef HOST_CHANNEL_H
#define HOST_CHANNEL_H

#include "messages.h"

struct question {
    u32 kind, slot;
    struct reader payload;
};

/* Neither socket ever blocks. */
bool channel_open(int asked, int told);
void channel_close(void);

/* The next whole message, if it is there; false: the parent is gone or talks nonsense. */
bool channel_ask(struct question *q, bool *there);
/* Where the answer to it is written; `channel_answer` sends it. */
struct writer *channel_writer(void);
void channel_answer(u32 kind);
/* Go on sending; false: the parent is gone. */
bool channel_send(void);
/* The sockets, and what to poll them for. */
int channel_asked(void);
int channel_told(void);
short channel_asked_events(void);
short channel_told_events(void);

/* Room for something to tell, which goes out by `channel_tell`; NULL: nobody listens as fast as this. */
u8 *channel_room(u32 kind, u32 slot, u32 size);
void channel_tell(void);

#endif
