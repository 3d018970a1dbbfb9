import { failedWith, Netlink } from './netlink.ts';
import type { VanishedSocket } from './object.ts';
import { AF_INET, AF_INET6 } from './socket-numbers.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DESTROY = 21;
/** struct inet_diag_req_v2 (linux/inet_diag.h). */
const REQUEST_SIZE = 56;

/**
 * Closes a socket of the process's own network namespace as if its connection had been aborted: whoever waits on it
 * is told ECONNABORTED (SOCK_DESTROY of sock_diag(7); the kernel needs CONFIG_INET_DIAG_DESTROY). False where it is
 * not there any more, or in another namespace.
 */
export function destroySocket(socket: VanishedSocket): boolean {
  const v4 = socket.local[10] === 0xff && socket.local.subarray(0, 10).every(byte => byte === 0);
  const body = Buffer.alloc(REQUEST_SIZE);
  body[0] = v4 ? AF_INET : AF_INET6;
  body[1] = socket.proto;
  body.writeUInt32LE(0xffff_ffff, 4); // in whatever state
  body.writeUInt16BE(socket.local_port, 8);
  body.writeUInt16BE(socket.remote_port, 10);
  body.set(v4 ? socket.local.subarray(12) : socket.local, 12);
  body.set(v4 ? socket.remote.subarray(12) : socket.remote, 28);
  body.writeBigUInt64LE(socket.cookie, 48);
  using netlink = new Netlink([], NETLINK_SOCK_DIAG);
  try {
    netlink.request(`socket ${socket.cookie}`, SOCK_DESTROY, 0, body);
    return true;
  } catch (error) {
    if (failedWith(error, 'ENOENT', 'ESTALE')) return false;
    throw error;
  }
}
