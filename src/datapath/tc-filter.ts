/**
 * BPF programs on devices by the traffic control of before tcx: a `clsact` queueing discipline and in it one filter of
 * kind `bpf` in direct-action mode (linux/rtnetlink.h, linux/pkt_cls.h; tc-bpf(8)). Changing a filter in place is
 * atomic: every packet meets the program of before or the one of after.
 */
import { failedWith, type Netlink } from './netlink.ts';
import {
  decodeAttributes,
  decodeText,
  NLM_F_CREATE,
  NLM_F_EXCL,
  nested,
  text,
  u32,
} from './netlink-message.ts';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;

const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_FLAG_ACT_DIRECT = 1;

const TC_H_CLSACT = 0xffff_fff1;
const CLSACT_HANDLE = 0xffff_0000;
const PARENT = { ingress: 0xffff_fff2, egress: 0xffff_fff3 } as const;

/** Before filters of others, as Cilium's (`bpf-filter-priority`). */
const PRIORITY = 1;
const ETH_P_ALL_IN_NETWORK_ORDER = 0x0300;
const PRIORITY_AND_PROTOCOL = (PRIORITY << 16) | ETH_P_ALL_IN_NETWORK_ORDER;
/** Not 1, which everybody takes: a filter of another program is never replaced. */
const HANDLE = 0x157;

export type Direction = keyof typeof PARENT;

/** Where a filter is. A device has one of ours in each direction. */
export interface FilterPlace {
  readonly ifindex: number;
  readonly direction: Direction;
}

export interface Filter extends FilterPlace {
  /** Shown by `tc filter show`; at most 255 bytes. */
  readonly name: string;
  /** Descriptor of a loaded program of type sched_cls. */
  readonly program: number;
}

/** Attaches the program, or exchanges the one that is there. Throws ENODEV where the device is gone. */
export function replaceFilter(netlink: Netlink, filter: Filter): void {
  for (const { what, type, flags, body, mayExist } of replacement(filter))
    try {
      netlink.request(what, type, flags, body);
    } catch (error) {
      if (!(mayExist && failedWith(error, 'EEXIST'))) throw error;
    }
}

/** `replaceFilter` on another thread: the socket must not be used for anything else until it resolves. */
export async function replaceFilterLater(netlink: Netlink, filter: Filter): Promise<void> {
  for (const { what, type, flags, body, mayExist } of replacement(filter))
    try {
      await netlink.requestLater(what, type, flags, body);
    } catch (error) {
      if (!(mayExist && failedWith(error, 'EEXIST'))) throw error;
    }
}

/** Name of our filter, or undefined where there is none, or no such device. */
export function filterName(netlink: Netlink, place: FilterPlace): string | undefined {
  try {
    const answer = netlink.get(`get ${describe(place)}`, RTM_GETTFILTER, filterBody(place));
    const options = decodeAttributes(answer.subarray(20)).get(TCA_OPTIONS) ?? Buffer.alloc(0);
    return decodeText(decodeAttributes(options).get(TCA_BPF_NAME) ?? Buffer.alloc(0));
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Removes our filter, and the `clsact` when no filter of anybody is left in it. False if there was none. */
export function removeFilter(netlink: Netlink, place: FilterPlace): boolean {
  try {
    netlink.request(`remove ${describe(place)}`, RTM_DELTFILTER, 0, filterBody(place));
    if (isUnused(netlink, place.ifindex))
      netlink.request(
        `remove clsact of device ${place.ifindex}`,
        RTM_DELQDISC,
        0,
        header(place.ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0),
      );
    return true;
  } catch (error) {
    if (isAbsent(error)) return false;
    throw error;
  }
}

interface Request {
  readonly what: string;
  readonly type: number;
  readonly flags: number;
  readonly body: Buffer;
  readonly mayExist: boolean;
}

function replacement(filter: Filter): readonly Request[] {
  const { ifindex, name, program } = filter;
  return [
    {
      what: `add clsact to device ${ifindex}`,
      type: RTM_NEWQDISC,
      flags: NLM_F_CREATE | NLM_F_EXCL,
      body: Buffer.concat([header(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0), text(TCA_KIND, 'clsact')]),
      mayExist: true,
    },
    {
      what: `put ${name} into ${describe(filter)}`,
      type: RTM_NEWTFILTER,
      flags: NLM_F_CREATE,
      mayExist: false,
      body: Buffer.concat([
        filterBody(filter),
        nested(
          TCA_OPTIONS,
          u32(TCA_BPF_FD, program),
          text(TCA_BPF_NAME, name),
          u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT),
        ),
      ]),
    },
  ];
}

function isUnused(netlink: Netlink, ifindex: number): boolean {
  return Object.values(PARENT).every(
    parent =>
      netlink.dump(`list filters of device ${ifindex}`, RTM_GETTFILTER, header(ifindex, 0, parent, 0))
        .length === 0,
  );
}

const filterBody = ({ ifindex, direction }: FilterPlace): Buffer =>
  Buffer.concat([header(ifindex, HANDLE, PARENT[direction], PRIORITY_AND_PROTOCOL), text(TCA_KIND, 'bpf')]);

/** struct tcmsg. */
function header(ifindex: number, handle: number, parent: number, info: number): Buffer {
  const out = Buffer.alloc(20);
  out.writeInt32LE(ifindex, 4);
  out.writeUInt32LE(handle, 8);
  out.writeUInt32LE(parent, 12);
  out.writeUInt32LE(info, 16);
  return out;
}

const describe = ({ ifindex, direction }: FilterPlace): string => `${direction} filter of device ${ifindex}`;

/** ENOENT: no such filter. EINVAL: no clsact. ENODEV: no device. */
const isAbsent = (error: unknown): boolean => failedWith(error, 'ENOENT', 'EINVAL', 'ENODEV');
