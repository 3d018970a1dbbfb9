/**
 * ICMP echo (RFC 792, RFC 4443): asks addresses whether they are there. Nothing waits: questions are sent, answers
 * are read when somebody looks, and what belongs to what is in the packets themselves.
 */
import { randomBytes } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { addressBytes } from '../api/ip-address.ts';
import { close, errno, errnoName, recv, SystemCallError, sendto, setsockopt, socket } from './libc.ts';
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_RAW } from './socket-numbers.ts';

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const ICMP6_FILTER = 1;
const MSG_DONTWAIT = 0x40;
const EAFNOSUPPORT = 97;
const EAGAIN = 11;
const EINTR = 4;

const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const ECHO_REQUEST_V6 = 128;
const ECHO_REPLY_V6 = 129;
/** Type, code, checksum, identifier, sequence number. */
const HEADER = 8;
const COOKIE = 8;
/** The cookie, then the number of who was asked. */
const MESSAGE = HEADER + COOKIE + 4;

/**
 * A raw socket of each family. A question carries a number that its answer repeats, beside a cookie that nobody can
 * guess who does not see the packets. Needs CAP_NET_RAW. Ping sockets would not, but a node's
 * `net.ipv4.ping_group_range` usually has nobody in it.
 */
export class EchoSocket implements Disposable {
  readonly #cookie = randomBytes(COOKIE);
  /** What every question is but for its numbers: in a large mesh there are thousands a second. */
  readonly #question = Buffer.concat([
    Buffer.alloc(4),
    randomBytes(2),
    Buffer.alloc(2),
    this.#cookie,
    Buffer.alloc(4),
  ]);
  readonly #to = { v4: emptyAddress(AF_INET), v6: emptyAddress(AF_INET6) };
  readonly #buffer = Buffer.alloc(2048);
  readonly #v4: number;
  /** -1 where the kernel has no IPv6. */
  readonly #v6: number;
  #sequence = 0;
  #closed = false;

  constructor() {
    this.#v4 = open(AF_INET, IPPROTO_ICMP);
    try {
      this.#v6 = open(AF_INET6, IPPROTO_ICMPV6);
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.errno !== EAFNOSUPPORT) throw error;
      this.#v6 = -1;
    }
  }

  /**
   * Sends one question to an address. `number` (32 bits) is what `poll` gives when it is answered. The name of the
   * errno where it could not be sent, e.g. ENETUNREACH.
   */
  ask(address: string, number: number): string | undefined {
    const v6 = isIPv6(address);
    if (this.#closed || (v6 && this.#v6 < 0)) return 'EAFNOSUPPORT';
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const message = this.#question;
    message[0] = v6 ? ECHO_REQUEST_V6 : ECHO_REQUEST;
    message.writeUInt16BE(0, 2);
    message.writeUInt16BE(this.#sequence, 6);
    message.writeUInt32BE(number >>> 0, HEADER + COOKIE);
    // Of ICMPv6 the kernel computes it: it covers the addresses.
    if (!v6) message.writeUInt16BE(checksum(message), 2);
    const to = v6 ? this.#to.v6 : this.#to.v4;
    to.set(addressBytes(address), v6 ? 8 : 4);
    const sent = sendto(v6 ? this.#v6 : this.#v4, message, MESSAGE, MSG_DONTWAIT, to, to.length);
    return sent < 0 ? errnoName(errno()) : undefined;
  }

  /** Numbers of the questions that have been answered since the last call, in the order the answers came. */
  poll(): number[] {
    const numbers: number[] = [];
    if (this.#closed) return numbers;
    this.#read(this.#v4, packet => {
      // A raw IPv4 socket gives the header, too.
      const at = (packet[0]! & 0x0f) * 4;
      this.#accept(packet.subarray(at), ECHO_REPLY, numbers);
    });
    if (this.#v6 >= 0) this.#read(this.#v6, packet => this.#accept(packet, ECHO_REPLY_V6, numbers));
    return numbers;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.#v4);
    if (this.#v6 >= 0) close(this.#v6);
  }

  #read(fd: number, packet: (bytes: Buffer) => void): void {
    for (;;) {
      const length = recv(fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT);
      if (length >= 0) {
        packet(this.#buffer.subarray(0, length));
        continue;
      }
      const number = errno();
      if (number === EAGAIN) return;
      if (number !== EINTR) throw new SystemCallError('read ICMP socket', number);
    }
  }

  /** The socket sees the answers to every process of the node: ours carry our cookie. */
  #accept(message: Buffer, type: number, numbers: number[]): void {
    if (message.length < MESSAGE || message[0] !== type) return;
    if (!message.subarray(HEADER, HEADER + COOKIE).equals(this.#cookie)) return;
    numbers.push(message.readUInt32BE(HEADER + COOKIE));
  }
}

/** A socket that is given echo replies and nothing else. */
function open(family: number, protocol: number): number {
  const fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);
  if (fd < 0) throw new SystemCallError('open ICMP socket', errno());
  const v6 = family === AF_INET6;
  // Bits that are set are types that are kept away (struct icmp_filter, struct icmp6_filter).
  const filter = Buffer.alloc(v6 ? 32 : 4, 0xff);
  const reply = v6 ? ECHO_REPLY_V6 : ECHO_REPLY;
  const word = (reply >> 5) * 4;
  filter.writeUInt32LE((0xffffffff & ~(1 << (reply & 31))) >>> 0, word);
  const [level, name] = v6 ? [IPPROTO_ICMPV6, ICMP6_FILTER] : [SOL_RAW, ICMP_FILTER];
  if (setsockopt(fd, level, name, filter, filter.length) < 0) {
    const number = errno();
    close(fd);
    throw new SystemCallError('filter ICMP socket', number);
  }
  return fd;
}

/** struct sockaddr_in, struct sockaddr_in6: the address is at 4, or at 8. */
function emptyAddress(family: number): Buffer {
  const out = Buffer.alloc(family === AF_INET6 ? 28 : 16);
  out.writeUInt16LE(family, 0);
  return out;
}

/** The Internet checksum (RFC 1071) of an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
