"""Live video: from a camera, a stream, a pipe or a file, steadied on the way, to a window, a stream, a pipe or a file.

Reading, computing and writing run on threads of their own, with bounded queues between them. Who gives way when one
of them is too slow is decided in one place, the queue between reading and computing:

- **A camera or a network stream** cannot wait. When a second of pictures is queued and none was taken for the time of
  a frame, the oldest decoded picture is dropped and counted; the pictures that remain keep their timestamps. Packets
  are never dropped before they are decoded, since that would spoil the pictures that refer to them.
- **A file or a pipe** waits: nothing is dropped, and a slow reader of our output slows the whole line down.

A camera or a network stream that ends, breaks or gives nothing for `stall_s` is opened again, first at once, then
after a half, one, two, four, then every eight seconds; it continues as a new scene, with timestamps that count the time
in between. A pipe or a file that gives nothing for so long ends the run. Either way what was written is completed.
"""
