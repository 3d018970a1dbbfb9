/** Neighbour entries (ARP and ND tables), by RTM_*NEIGH (linux/neighbour.h). */

import { addressBytes, addressText } from '../api/ip-address.ts';
import { failedWith, type Netlink } from './netlink.ts';
import { familyOf, macBytes, macText } from './netlink-address.ts';
import { attribute, decodeAttributes, NLM_F_CREATE, NLM_F_REPLACE } from './netlink-message.ts';

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;
const NUD_NOARP = 0x40;

export interface Neighbour {
  readonly ifindex: number;
  readonly address: string;
  /** '' while it is being resolved. */
  readonly mac: string;
  readonly permanent: boolean;
}

/** Entries of all devices, or of one, without the kernel's own (multicast, loopback). */
export function listNeighbours(netlink: Netlink, ifindex = 0): Neighbour[] {
  return netlink
    .dump('list neighbours', RTM_GETNEIGH, header(0, 0, 0))
    .filter(body => !(body.readUInt16LE(8) & NUD_NOARP))
    .map(decodeNeighbour)
    .filter(each => ifindex === 0 || each.ifindex === ifindex);
}

/** Sets a permanent entry, so that the address is never asked for on the wire. */
export function replaceNeighbour(netlink: Netlink, ifindex: number, address: string, mac: string): void {
  netlink.request(
    `replace neighbour ${address} of link ${ifindex}`,
    RTM_NEWNEIGH,
    NLM_F_CREATE | NLM_F_REPLACE,
    Buffer.concat([
      header(familyOf(address), ifindex, NUD_PERMANENT),
      attribute(NDA_DST, addressBytes(address)),
      attribute(NDA_LLADDR, macBytes(mac)),
    ]),
  );
}

/** Removes an entry. False if there was none. */
export function deleteNeighbour(netlink: Netlink, ifindex: number, address: string): boolean {
  try {
    netlink.request(
      `delete neighbour ${address} of link ${ifindex}`,
      RTM_DELNEIGH,
      0,
      Buffer.concat([header(familyOf(address), ifindex, 0), attribute(NDA_DST, addressBytes(address))]),
    );
    return true;
  } catch (error) {
    if (failedWith(error, 'ENOENT', 'ENODEV')) return false;
    throw error;
  }
}

function decodeNeighbour(body: Buffer): Neighbour {
  const attributes = decodeAttributes(body.subarray(12));
  const address = attributes.get(NDA_DST);
  return {
    ifindex: body.readInt32LE(4),
    address: address ? addressText(address) : '',
    mac: macText(attributes.get(NDA_LLADDR) ?? Buffer.alloc(0)),
    permanent: (body.readUInt16LE(8) & NUD_PERMANENT) !== 0,
  };
}

/** struct ndmsg. */
function header(family: number, ifindex: number, state: number): Buffer {
  const out = Buffer.alloc(12);
  out[0] = family;
  out.writeInt32LE(ifindex, 4);
  out.writeUInt16LE(state, 8);
  return out;
}
