/** L2 announcement: services and policies → addresses → leases → what the programs answer for. */
import { isIPv6 } from 'node:net';
import {
  CiliumL2AnnouncementPolicy,
  type L2PolicyRow,
  l2PolicyRow,
} from '../api/crds/l2-announcement-policy.ts';
import { format, parse } from '../datapath/address.ts';
import { announcementOf, joinSolicitedNodeGroup, sendFrame } from '../datapath/address-announcement.ts';
import type { L2ResponderKey, L2ResponderValue } from '../datapath/l2-responder.ts';
import type { BpfMap } from '../datapath/map.ts';
import { mapTarget } from '../datapath/map-target.ts';
import { macBytes } from '../datapath/netlink-address.ts';
import type { KubeClient } from '../kube/client.ts';
import { Lease } from '../kube/objects.ts';
import { type BadObject, type Reflection, reflect } from '../kube/reflect.ts';
import { pathOf, resources } from '../kube/resource.ts';
import type { Logger } from '../log.ts';
import { Reconciler, type Target } from '../table/reconciler.ts';
import { type ReadonlyTable, Table } from '../table/table.ts';
import {
  announcementKey,
  deriveL2Addresses,
  deriveL2Announcements,
  deriveL2Candidates,
  type L2Announcement,
} from './l2-addresses.ts';
import { L2Leases, l2LeaseRow, l2LeasesTable } from './l2-leases.ts';
import type { Sources } from './sources.ts';
import type { Uplink } from './uplink.ts';

export interface L2Options {
  readonly client: KubeClient;
  readonly sources: Pick<Sources, 'services' | 'slices' | 'node'>;
  readonly map: BpfMap<L2ResponderKey, L2ResponderValue>;
  readonly uplinks: readonly Uplink[];
  readonly nodeName: string;
  /** Where the leases are. */
  readonly namespace: string;
  /** Milliseconds, as `L2LeaseOptions` has them. */
  readonly lease: { readonly duration: number; readonly renew: number; readonly retry: number };
  readonly signal: AbortSignal;
  /** A policy that cannot be understood. */
  readonly onBad: (bad: BadObject) => void;
  readonly log: Logger;
}

export interface L2Announcements {
  readonly announcements: ReadonlyTable<L2Announcement>;
  readonly reconciler: Reconciler<L2Announcement>;
  readonly reflections: readonly Reflection[];
}

/** Milliseconds after the first announcement of an address at which it is repeated: a packet may be lost. */
const REPEATS = [1000, 3000];

/** Answers for addresses of services, as policies want and leases allow. */
export function runL2Announcements(options: L2Options): L2Announcements {
  const { client, sources, signal, log, nodeName, namespace } = options;
  const policies = new Table<L2PolicyRow>({
    name: 'l2-policies',
    keyOf: row => row.name,
    equal: (a, b) => a.spec === b.spec,
  });
  const leases = l2LeasesTable();
  const policiesPath = pathOf(resources.l2AnnouncementPolicies);
  const leasesPath = pathOf(resources.leases, { namespace });
  const report = (path: string) => ({
    signal,
    onError: (error: Error, delay: number) =>
      log.warn({ path, error: error.message, delay }, 'cannot be read now'),
  });
  const reflections = [
    reflect(client, {
      path: policiesPath,
      schema: CiliumL2AnnouncementPolicy,
      table: policies,
      toRow: l2PolicyRow,
      onBad: options.onBad,
      ...report(policiesPath),
    }),
    reflect(client, {
      path: leasesPath,
      schema: Lease,
      table: leases,
      toRow: l2LeaseRow,
      ...report(leasesPath),
    }),
  ];
  const addresses = deriveL2Addresses({ ...sources, policies, nodeName, uplinks: options.uplinks });
  const { held } = new L2Leases({
    client,
    namespace,
    node: nodeName,
    candidates: deriveL2Candidates(addresses),
    leases,
    exists: service => sources.services.has(service),
    ...options.lease,
    signal,
    onError: (service, error) => log.warn({ service, error: error.message }, 'lease'),
  });
  held.subscribe(({ key, after }) =>
    log.info({ service: key }, after ? 'this node answers for the service' : 'this node answers no more'),
  );
  const announcements = deriveL2Announcements(addresses, held);
  const reconciler = new Reconciler(announcements, responderTarget(options, announcements), {
    signal,
    onError: (key, error) => log.warn({ what: 'l2', key, error: error.message }, 'cannot be written'),
  });
  return { announcements, reconciler, reflections };
}

/** The map's rows; each new one is told to its link. */
function responderTarget(
  { map, uplinks, log, signal }: L2Options,
  announcements: ReadonlyTable<L2Announcement>,
): Target<L2Announcement> {
  const macOf = new Map(uplinks.map(each => [each.ifindex, each.mac]));
  const rows = mapTarget<L2Announcement, L2ResponderKey, L2ResponderValue>(map, {
    nameOf: ({ addr, ifindex }) => announcementKey({ address: format(addr), ifindex }),
    keyOf: name => {
      const at = name.lastIndexOf('%');
      return { addr: parse(name.slice(0, at)), ifindex: Number(name.slice(at + 1)) };
    },
    toRow: ({ address, ifindex }) => ({
      key: { addr: parse(address), ifindex },
      value: { mac: macBytes(macOf.get(ifindex) ?? ''), answers: 0 },
    }),
  });
  const tell = ({ address, ifindex }: L2Announcement): void => {
    try {
      const { frame, protocol } = announcementOf(address, macOf.get(ifindex) ?? '');
      sendFrame(ifindex, frame, protocol);
    } catch (error) {
      log.warn({ address, ifindex, error: error instanceof Error ? error.message : error }, 'announcement');
    }
  };
  /** IPv6: where the questions for an address are let through. */
  const groups = new Map<string, Disposable>();
  const listen = (key: string, row: L2Announcement | undefined): void => {
    if (row && isIPv6(row.address)) {
      if (!groups.has(key)) groups.set(key, joinSolicitedNodeGroup(row.address, row.ifindex));
    } else {
      groups.get(key)?.[Symbol.dispose]();
      groups.delete(key);
    }
  };
  return {
    existing: () => rows.existing?.() ?? [],
    async apply(batch) {
      const failed = new Map(await rows.apply(batch));
      for (const { key, row } of batch) {
        if (failed.has(key)) continue;
        try {
          listen(key, row);
        } catch (error) {
          failed.set(key, error instanceof Error ? error : new Error(String(error)));
        }
        if (!row) continue;
        tell(row);
        for (const delay of REPEATS)
          setTimeout(() => {
            if (!signal.aborted && announcements.get(key) === row) tell(row);
          }, delay).unref();
      }
      return failed;
    },
  };
}
