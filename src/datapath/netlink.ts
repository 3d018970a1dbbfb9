/**
 * One AF_NETLINK socket, synchronous: a request's answer is there when the call returns, and nothing
 * of the process runs in between. Used for links, addresses, routes and neighbours of the network
 * namespace the socket was opened in.
 */
import { bind, close, errno, recv, SystemCallError, send, sendLater, setsockopt, socket } from './libc.ts';
import {
  decodeAttributes,
  decodeMessages,
  decodeText,
  encodeMessage,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_MIN_TYPE,
} from './netlink-message.ts';
import { AF_NETLINK, SOCK_CLOEXEC, SOCK_RAW } from './socket-numbers.ts';

const NETLINK_ROUTE = 0;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const NLMSGERR_ATTR_MSG = 1;
const MSG_DONTWAIT = 0x40;
const EIO = 5;
const EAGAIN = 11;
const EINTR = 4;
const ENOBUFS = 105;

/** Multicast groups of NETLINK_ROUTE (linux/rtnetlink.h). */
export const RTNLGRP_LINK = 1;
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTNLGRP_IPV4_ROUTE = 7;
export const RTNLGRP_IPV6_IFADDR = 9;
export const RTNLGRP_IPV6_ROUTE = 11;

/** What a message's kernel error means to the caller: the object, the errno, the kernel's own words. */
export { SystemCallError as NetlinkError } from './libc.ts';

/** True for a failed request with this errno name, e.g. `failedWith(error, 'EEXIST')`. */
export const failedWith = (error: unknown, ...codes: readonly string[]): boolean =>
  error instanceof SystemCallError && codes.includes(error.code);

export class Netlink implements Disposable {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(256 * 1024);
  #sequence = 0;
  #closed = false;

  /**
   * @param groups multicast groups to join; a socket with groups is for `poll` only.
   * @param family which part of the kernel to speak to (NETLINK_*)
   */
  constructor(groups: readonly number[] = [], family = NETLINK_ROUTE) {
    this.#fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family);
    if (this.#fd < 0) throw new SystemCallError('open netlink socket', errno());
    try {
      this.#option(SOL_NETLINK, NETLINK_EXT_ACK, int(1));
      this.#option(SOL_NETLINK, NETLINK_GET_STRICT_CHK, int(1));
      this.#option(SOL_SOCKET, SO_RCVBUF, int(groups.length ? 4 << 20 : 1 << 20));
      // The kernel answers while send() runs; the limit only keeps a bug from hanging the process.
      const limit = Buffer.alloc(16);
      limit.writeBigInt64LE(5n);
      this.#option(SOL_SOCKET, SO_RCVTIMEO, limit);
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK);
      if (bind(this.#fd, address, address.length) < 0)
        throw new SystemCallError('bind netlink socket', errno());
      for (const group of groups) this.#option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, int(group));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Sends a change and waits for the kernel's verdict. `what` names the object in the error. */
  request(what: string, type: number, flags: number, body: Uint8Array): void {
    this.#verdict(what, this.#send(what, type, NLM_F_REQUEST | NLM_F_ACK | flags, body));
  }

  /**
   * `request` on a thread of libuv's pool, for changes that wait long for the kernel's lock on devices. The kernel
   * works while the message is sent; nobody may use this socket until it resolves.
   */
  async requestLater(what: string, type: number, flags: number, body: Uint8Array): Promise<void> {
    const { sequence, message } = this.#message(what, type, NLM_F_REQUEST | NLM_F_ACK | flags, body);
    if ((await sendLater(this.#fd, message, message.length, 0)) < 0) throw new SystemCallError(what, EIO);
    this.#verdict(what, sequence);
  }

  /** Asks for one object; the answer's body. */
  get(what: string, type: number, body: Uint8Array): Buffer {
    const sequence = this.#send(what, type, NLM_F_REQUEST, body);
    for (;;)
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence) continue;
        if (message.type === NLMSG_ERROR) throwIfError(what, message);
        else return Buffer.from(message.body);
      }
  }

  /**
   * `dump`, in the pieces that the kernel gives: it waits in between, and nobody may use this socket until the end. One
   * that was disturbed by a change may lack what was there all the time.
   */
  *pieces(what: string, type: number, body: Uint8Array): Generator<Buffer[]> {
    const sequence = this.#send(what, type, NLM_F_REQUEST | NLM_F_DUMP, body);
    for (let ended = false; !ended; ) {
      const found: Buffer[] = [];
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence) continue;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) throwIfError(what, message);
        if (message.type >= NLMSG_MIN_TYPE) found.push(Buffer.from(message.body));
        if (message.type === NLMSG_DONE || !(message.flags & NLM_F_MULTI)) ended = true;
      }
      yield found;
    }
  }

  /** Asks for all objects; a dump that the kernel says was disturbed by a change is taken again. */
  dump(what: string, type: number, body: Uint8Array): Buffer[] {
    for (let attempt = 1; ; attempt++) {
      const found: Buffer[] = [];
      const disturbed = this.#dumpOnce(what, type, body, found);
      if (!disturbed || attempt === 8) return found;
    }
  }

  /**
   * Messages of the joined groups that have arrived, without waiting. `lost` is true when the kernel
   * dropped some because nobody read them in time: the caller lists everything again.
   */
  poll(): { readonly messages: readonly NetlinkMessage[]; readonly lost: boolean } {
    const messages: NetlinkMessage[] = [];
    let lost = false;
    for (;;) {
      const length = recv(this.#fd, this.#buffer, this.#buffer.length, MSG_DONTWAIT);
      if (length < 0) {
        const number = errno();
        if (number === EAGAIN) return { messages, lost };
        if (number === EINTR) continue;
        if (number !== ENOBUFS) throw new SystemCallError('read netlink notifications', number);
        lost = true;
        continue;
      }
      for (const message of decodeMessages(this.#buffer.subarray(0, length)))
        if (message.type >= NLMSG_MIN_TYPE) messages.push({ ...message, body: Buffer.from(message.body) });
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.#fd);
  }

  #dumpOnce(what: string, type: number, body: Uint8Array, found: Buffer[]): boolean {
    const sequence = this.#send(what, type, NLM_F_REQUEST | NLM_F_DUMP, body);
    let disturbed = false;
    for (;;)
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence) continue;
        if (message.flags & NLM_F_DUMP_INTR) disturbed = true;
        if (message.type === NLMSG_ERROR) throwIfError(what, message);
        if (message.type === NLMSG_DONE) {
          throwIfError(what, message);
          return disturbed;
        }
        if (message.type >= NLMSG_MIN_TYPE) found.push(Buffer.from(message.body));
        if (!(message.flags & NLM_F_MULTI)) return disturbed;
      }
  }

  #send(what: string, type: number, flags: number, body: Uint8Array): number {
    const { sequence, message } = this.#message(what, type, flags, body);
    if (send(this.#fd, message, message.length, 0) < 0) throw new SystemCallError(what, errno());
    return sequence;
  }

  #message(
    what: string,
    type: number,
    flags: number,
    body: Uint8Array,
  ): { readonly sequence: number; readonly message: Buffer } {
    if (this.#closed) throw new Error(`${what}: the netlink socket is closed`);
    const sequence = (this.#sequence + 1) >>> 0;
    this.#sequence = sequence;
    return { sequence, message: encodeMessage(type, flags, sequence, body) };
  }

  /** Waits for the acknowledgement of one request; throws what it refuses with. */
  #verdict(what: string, sequence: number): void {
    for (;;)
      for (const message of this.#receive(what)) {
        if (message.sequence !== sequence || message.type !== NLMSG_ERROR) continue;
        throwIfError(what, message);
        return;
      }
  }

  #receive(what: string): Iterable<NetlinkMessage> {
    for (;;) {
      const length = recv(this.#fd, this.#buffer, this.#buffer.length, 0);
      if (length >= 0) return decodeMessages(this.#buffer.subarray(0, length));
      if (errno() !== EINTR) throw new SystemCallError(what, errno());
    }
  }

  #option(level: number, name: number, value: Buffer): void {
    if (setsockopt(this.#fd, level, name, value, value.length) < 0)
      throw new SystemCallError(`set netlink socket option ${name}`, errno());
  }
}

function int(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeInt32LE(value);
  return out;
}

/** NLMSG_ERROR and NLMSG_DONE start with a negative errno; zero is success. */
function throwIfError(what: string, message: NetlinkMessage): void {
  const code = message.body.length >= 4 ? message.body.readInt32LE(0) : 0;
  if (code < 0) throw new SystemCallError(what, -code, kernelWords(message));
}

/** The extended acknowledgement's text, after the echoed request (its header only when capped). */
function kernelWords(message: NetlinkMessage): string {
  if (message.type !== NLMSG_ERROR || !(message.flags & NLM_F_ACK_TLVS)) return '';
  const echoed = message.flags & NLM_F_CAPPED ? 16 : (message.body.readUInt32LE(4) + 3) & ~3;
  const words = decodeAttributes(message.body.subarray(4 + echoed)).get(NLMSGERR_ATTR_MSG);
  return words ? decodeText(words) : '';
}
