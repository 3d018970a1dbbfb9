import koffi from 'koffi';
import { close, errno, SystemCallError, socket } from './libc.ts';
import { AF_INET, SOCK_CLOEXEC, SOCK_DGRAM } from './socket-numbers.ts';

const getsockopt: (
  fd: number,
  level: number,
  name: number,
  value: Uint8Array,
  length: Uint32Array,
) => number = koffi
  .load('libc.so.6')
  .func('int getsockopt(int fd, int level, int name, void *value, void *length)');

const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;

/** The kernel's lasting number of this process's network namespace; what sockets in it show to BPF. */
export function netnsCookie(): bigint {
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw new SystemCallError('socket', errno());
  try {
    const value = new Uint8Array(8);
    if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, value, new Uint32Array([8])) < 0)
      throw new SystemCallError('SO_NETNS_COOKIE', errno());
    return new DataView(value.buffer).getBigUint64(0, true);
  } finally {
    close(fd);
  }
}
