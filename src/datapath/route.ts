/** Routes, by RTM_*ROUTE (linux/rtnetlink.h). */

import { addressBytes, addressText } from '../api/ip-address.ts';
import { type Scope, scopeName, scopeNumber } from './link-address.ts';
import { failedWith, type Netlink } from './netlink.ts';
import { familyOf, splitPrefix } from './netlink-address.ts';
import { attribute, decodeAttributes, NLM_F_CREATE, NLM_F_REPLACE, nested, u32 } from './netlink-message.ts';
import { AF_INET, AF_INET6 } from './socket-numbers.ts';

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_TABLE = 15;
const RTAX_MTU = 2;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;

/** Marks our routes in the kernel's tables, so that we list and remove ours only. Unassigned in rt_protos. */
export const PROTOCOL_ISTHMUS = 0x69;
export const TABLE_MAIN = 254;

/** What a route does with a packet; values of linux/rtnetlink.h. */
export type RouteType =
  | 'unicast'
  | 'local'
  | 'broadcast'
  | 'blackhole'
  | 'unreachable'
  | 'prohibit'
  | 'other';
const types: Readonly<Record<Exclude<RouteType, 'other'>, number>> = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
};

export interface Route {
  /** Destination in canonical form, '10.1.0.0/16'; '0.0.0.0/0' is the default route. */
  readonly prefix: string;
  readonly table: number;
  /** Who made it: 2 kernel, 3 boot, 4 static, PROTOCOL_ISTHMUS ours. */
  readonly protocol: number;
  readonly type: RouteType;
  readonly scope: Scope;
  /** ifindex of the outgoing device; 0 when none (blackhole). */
  readonly ifindex: number;
  readonly via?: string;
  /** Preferred source address of packets of this machine. */
  readonly source?: string;
  readonly mtu?: number;
  readonly metric?: number;
  /** The gateway is taken to be on the link although no route says so. */
  readonly onlink?: boolean;
}

export interface RouteFilter {
  readonly table?: number;
  readonly protocol?: number;
  readonly family?: 4 | 6;
}

/** Routes of all tables that match the filter. */
export function listRoutes(netlink: Netlink, filter: RouteFilter = {}): Route[] {
  return decodeRoutes(
    familiesOf(filter).flatMap(family => dumpRoutes(netlink, family, filter)),
    filter,
  );
}

/** `listRoutes` in pieces of some hundreds: whoever takes them may let others have their turn in between. */
export function* listRoutesLater(netlink: Netlink, filter: RouteFilter = {}): Generator<Route[]> {
  for (const family of familiesOf(filter))
    try {
      for (const bodies of netlink.pieces('list routes', RTM_GETROUTE, request(family, filter)))
        yield decodeRoutes(bodies, filter);
    } catch (error) {
      if (!failedWith(error, 'ENOENT')) throw error;
    }
}

const familiesOf = ({ family }: RouteFilter): number[] =>
  family === 4 ? [AF_INET] : family === 6 ? [AF_INET6] : [AF_INET, AF_INET6];

const decodeRoutes = (bodies: readonly Buffer[], { table, protocol }: RouteFilter): Route[] =>
  bodies
    .filter(body => !(body.readUInt32LE(8) & RTM_F_CLONED))
    .map(decodeRoute)
    .filter(
      route =>
        (table === undefined || route.table === table) &&
        (protocol === undefined || route.protocol === protocol),
    );

/** A route to install: what is left out is unicast, table main, our protocol, scope by the gateway's presence. */
export interface RouteSpec {
  readonly prefix: string;
  readonly ifindex?: number;
  readonly via?: string;
  readonly source?: string;
  readonly table?: number;
  readonly protocol?: number;
  readonly type?: Exclude<RouteType, 'other'>;
  readonly scope?: Scope;
  readonly mtu?: number;
  readonly metric?: number;
  readonly onlink?: boolean;
}

/** Installs a route in place of one with the same prefix, table and metric, in one step. */
export const replaceRoute = (netlink: Netlink, route: RouteSpec): void =>
  netlink.request(`replace ${describe(route)}`, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, encode(route));

/** Removes a route; what the spec leaves out is not compared. False if there was none. */
export function deleteRoute(netlink: Netlink, route: RouteSpec): boolean {
  try {
    netlink.request(`delete ${describe(route)}`, RTM_DELROUTE, 0, encode(route));
    return true;
  } catch (error) {
    if (failedWith(error, 'ESRCH', 'ENODEV')) return false;
    throw error;
  }
}

/** The route a packet to this address takes, as the kernel decides it (with its source address). */
export function routeTo(netlink: Netlink, address: string): Route {
  const bytes = addressBytes(address);
  const body = Buffer.concat([
    header({ family: familyOf(address), length: bytes.length * 8 }),
    attribute(RTA_DST, bytes),
  ]);
  return decodeRoute(netlink.get(`route to ${address}`, RTM_GETROUTE, body));
}

function request(family: number, filter: RouteFilter): Buffer {
  const table = filter.table === undefined ? [] : [u32(RTA_TABLE, filter.table)];
  return Buffer.concat([header({ family, protocol: filter.protocol ?? 0 }), ...table]);
}

function dumpRoutes(netlink: Netlink, family: number, filter: RouteFilter): Buffer[] {
  try {
    return netlink.dump('list routes', RTM_GETROUTE, request(family, filter));
  } catch (error) {
    // A table nobody has put a route into yet.
    if (failedWith(error, 'ENOENT')) return [];
    throw error;
  }
}

function encode(route: RouteSpec): Buffer {
  const { address, length } = splitPrefix(route.prefix);
  const type = route.type ?? 'unicast';
  const scope =
    route.scope ?? (type === 'unicast' && !route.via ? 'link' : type === 'local' ? 'host' : 'universe');
  const table = route.table ?? TABLE_MAIN;
  return Buffer.concat([
    header({
      family: familyOf(address),
      length,
      table: table < 256 ? table : 0,
      protocol: route.protocol ?? PROTOCOL_ISTHMUS,
      scope: scopeNumber(scope),
      type: types[type],
      flags: route.onlink ? RTNH_F_ONLINK : 0,
    }),
    ...(length > 0 ? [attribute(RTA_DST, addressBytes(address))] : []),
    ...(route.ifindex ? [u32(RTA_OIF, route.ifindex)] : []),
    ...(route.via ? [attribute(RTA_GATEWAY, addressBytes(route.via))] : []),
    ...(route.source ? [attribute(RTA_PREFSRC, addressBytes(route.source))] : []),
    ...(route.metric !== undefined ? [u32(RTA_PRIORITY, route.metric)] : []),
    ...(route.mtu ? [nested(RTA_METRICS, u32(RTAX_MTU, route.mtu))] : []),
    u32(RTA_TABLE, table),
  ]);
}

function decodeRoute(body: Buffer): Route {
  const attributes = decodeAttributes(body.subarray(12));
  const address = (type: number): string | undefined => {
    const bytes = attributes.get(type);
    return bytes && addressText(bytes);
  };
  const mtu = decodeAttributes(attributes.get(RTA_METRICS) ?? Buffer.alloc(0))
    .get(RTAX_MTU)
    ?.readUInt32LE(0);
  const via = address(RTA_GATEWAY);
  const source = address(RTA_PREFSRC);
  const metric = attributes.get(RTA_PRIORITY)?.readUInt32LE(0);
  const type = (Object.keys(types) as (keyof typeof types)[]).find(each => types[each] === body[7]);
  return {
    prefix: `${address(RTA_DST) ?? (body[0] === AF_INET ? '0.0.0.0' : '::')}/${body[1]}`,
    table: attributes.get(RTA_TABLE)?.readUInt32LE(0) ?? body[4]!,
    protocol: body[5]!,
    type: type ?? 'other',
    scope: scopeName(body[6]!),
    ifindex: attributes.get(RTA_OIF)?.readUInt32LE(0) ?? 0,
    ...(via !== undefined && { via }),
    ...(source !== undefined && { source }),
    ...(mtu !== undefined && { mtu }),
    ...(metric !== undefined && { metric }),
    ...(body.readUInt32LE(8) & RTNH_F_ONLINK && { onlink: true }),
  };
}

interface Header {
  readonly family: number;
  readonly length?: number;
  readonly table?: number;
  readonly protocol?: number;
  readonly scope?: number;
  readonly type?: number;
  readonly flags?: number;
}

/** struct rtmsg. */
function header(fields: Header): Buffer {
  const out = Buffer.alloc(12);
  out[0] = fields.family;
  out[1] = fields.length ?? 0;
  out[4] = fields.table ?? 0;
  out[5] = fields.protocol ?? 0;
  out[6] = fields.scope ?? 0;
  out[7] = fields.type ?? 0;
  out.writeUInt32LE(fields.flags ?? 0, 8);
  return out;
}

const describe = (route: RouteSpec): string =>
  `route ${route.prefix}${route.via ? ` via ${route.via}` : ''}${route.ifindex ? ` dev ${route.ifindex}` : ''}` +
  `${route.table !== undefined ? ` table ${route.table}` : ''}`;
