import { isIP } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import { remoteUser } from '../clustermesh/access.ts';
import { findOverlaps } from '../clustermesh/overlap.ts';
import { issueCertificate, readCertificate } from '../clustermesh/x509.ts';
import { Failure } from '../failure.ts';
import { installedValues } from './helm.ts';
import { upgradeIsthmus } from './install.ts';
import { type ClusterChoice, clientOf } from './kubeconfig.ts';
import {
  checkMeshIdentity,
  type MeshAccess,
  NotYet,
  readMeshAccess,
  readMeshIdentity,
} from './mesh-access.ts';
import { refreshMeshVolumes } from './refresh-volumes.ts';

type Report = (line: string) => void;

/** A remote cluster in the values of the chart (clustermesh.config.clusters). */
const RemoteEntry = z.looseObject({ name: z.string() });
type RemoteEntry = z.infer<typeof RemoteEntry>;

/** A list of them, or a map by name; the list is what is written back. */
const RemoteEntries = z.union([
  z.array(RemoteEntry),
  z
    .record(z.string(), z.looseObject({}).nullable())
    .transform(map => Object.entries(map).map(([name, entry]): RemoteEntry => ({ ...entry, name }))),
]);

const Values = z.looseObject({
  clustermesh: z
    .looseObject({ config: z.looseObject({ clusters: RemoteEntries.nullish() }).nullish() })
    .nullish(),
});

export interface ConnectOptions {
  readonly local: ClusterChoice;
  readonly destinations: readonly ClusterChoice[];
  /** `IP:PORT` instead of what is found. */
  readonly localEndpoints?: readonly string[] | undefined;
  readonly destinationEndpoints?: readonly string[] | undefined;
  /** Connect the destinations with each other, too. */
  readonly mesh?: boolean;
  readonly report: Report;
}

/**
 * Connects clusters in both directions. Each gives the other a client certificate signed by its own authority,
 * the addresses of its etcd and its CA; the other's CA joins the bundle of CAs that agents trust, for that
 * cluster only. No cluster's etcd trusts a foreign CA, so that nobody abroad can make himself its administrator.
 */
export async function connectClusters(options: ConnectOptions): Promise<void> {
  const { local, destinations, report } = options;
  const members = await Promise.all(
    [local, ...destinations].map((choice, i) =>
      accessOfCluster(choice, report, i === 0 ? options.localEndpoints : options.destinationEndpoints),
    ),
  );
  const [first, ...others] = members;
  const pairs = others.map(other => [first!, other] as const);
  if (options.mesh)
    for (const [i, a] of others.entries()) for (const b of others.slice(i + 1)) pairs.push([a, b]);
  for (const [a, b] of pairs) await checkPair(a.access, b.access, report);

  const additions = new Map<Member, RemoteEntry[]>(members.map(member => [member, []]));
  for (const [a, b] of pairs)
    for (const [client, server] of [
      [a, b],
      [b, a],
    ] as const) {
      const { fingerprint } = await readCertificate(server.access.authority.cert);
      report(
        `🔑 ${server.access.name} has a CA of its own (${fingerprint.slice(0, 16)}…): adding it to the CA bundle of ${client.access.name}`,
      );
      additions.get(client)!.push(await entryFor(client.access, server.access));
    }
  await Promise.all(
    [...additions].map(async ([{ choice, access }, entries]) => {
      const names = entries.map(each => each.name).join(', ');
      report(`ℹ️  Configuring cluster ${access.name} to connect to ${names}`);
      await changeClusters(choice, present => [
        ...present.filter(each => !entries.some(entry => entry.name === each.name)),
        ...entries,
      ]);
    }),
  );
  for (const [a, b] of pairs) report(`✅ Connected cluster ${a.access.name} <=> ${b.access.name}!`);
}

export interface DisconnectOptions {
  readonly local: ClusterChoice;
  readonly destinations: readonly ClusterChoice[];
  readonly report: Report;
}

/** Takes the clusters off each other's lists. A destination that cannot be reached is only taken off ours. */
export async function disconnectClusters({ local, destinations, report }: DisconnectOptions): Promise<void> {
  const ours = await identityOf(local);
  for (const destination of destinations) {
    let theirs: string;
    let reachable = true;
    try {
      theirs = (await identityOf(destination)).name;
    } catch (error) {
      theirs = destination.context.replace(/^(isthmus|kind)-/, '');
      reachable = false;
      report(
        `⚠️  The cluster of context ${destination.context} cannot be reached (${error instanceof Error ? error.message : error}); taking ${theirs} off ${ours.name}'s list only`,
      );
    }
    report(`ℹ️  Configuring cluster ${ours.name} to disconnect from ${theirs}`);
    const without = (name: string) => (present: readonly RemoteEntry[]) =>
      present.filter(each => each.name !== name);
    const [removed] = await Promise.all([
      changeClusters(local, without(theirs)),
      reachable ? changeClusters(destination, without(ours.name)) : 0,
    ]);
    if (!reachable && removed === 0)
      throw new Failure(`cluster ${ours.name} is connected to no cluster ${theirs}`);
    report(`✅ Disconnected clusters ${ours.name} <x> ${theirs}!`);
  }
}

interface Member {
  readonly choice: ClusterChoice;
  readonly access: MeshAccess;
}

/** Reads how a cluster is reached; what it is still making is waited for. */
async function accessOfCluster(
  choice: ClusterChoice,
  report: Report,
  endpoints: readonly string[] | undefined,
): Promise<Member> {
  const client = clientOf(choice);
  report(`✨ Extracting access information of cluster ${choice.context}…`);
  const deadline = performance.now() + 120_000;
  let said = '';
  try {
    for (;;) {
      try {
        const access = await readMeshAccess(client, choice);
        const service = endpoints?.length ? serviceOf(endpoints) : access.service;
        report(`🔑 Extracting secrets from cluster ${access.name}…`);
        report(
          `ℹ️  Found ${service.type} addresses of ${access.name}: ${service.ips.join(', ')}, port ${service.port}`,
        );
        return { choice, access: { ...access, service } };
      } catch (error) {
        if (!(error instanceof NotYet)) throw error;
        if (performance.now() > deadline) throw new Failure(`cluster ${choice.context}: ${error.message}`);
        if (error.message !== said) report(`⌛ ${choice.context}: waiting, ${error.message}`);
        said = error.message;
        await pause(300);
      }
    }
  } finally {
    client.close();
  }
}

/** `172.18.2.2:32379`, several with one port. */
function serviceOf(endpoints: readonly string[]): MeshAccess['service'] {
  const parsed = endpoints.map(each => {
    const match = /^\[?(.*?)\]?:(\d+)$/.exec(each);
    const ip = match?.[1] ?? '';
    const port = Number(match?.[2]);
    if (!isIP(ip) || !(port > 0 && port < 65536))
      throw new Failure(`endpoint ${JSON.stringify(each)}: expected IP:PORT`, { exitCode: 2 });
    return { ip, port };
  });
  const [first] = parsed;
  if (parsed.some(each => each.port !== first!.port))
    throw new Failure('endpoints of one cluster have one port', { exitCode: 2 });
  return { type: 'given', ips: parsed.map(each => each.ip), port: first!.port };
}

async function checkPair(a: MeshAccess, b: MeshAccess, report: Report): Promise<void> {
  if (a.name === b.name)
    throw new Failure(`both clusters have the name ${a.name}`, {
      hint: 'a name is part of every identity: give one of them another with `isthmus upgrade --set cluster.name=…`',
    });
  if (a.id === b.id)
    throw new Failure(`clusters ${a.name} and ${b.name} have the same ID ${a.id}`, {
      hint: 'give one of them another with `isthmus upgrade --set cluster.id=…`',
    });
  if (a.maxClusters !== b.maxClusters)
    throw new Failure(
      `clustermesh.maxConnectedClusters is ${a.maxClusters} in ${a.name} and ${b.maxClusters} in ${b.name}: it must be equal in the whole mesh`,
    );
  for (const { a: one, b: other } of await findOverlaps([...a.podCidrs, ...b.podCidrs]))
    report(
      `⚠️  Pod CIDRs overlap: ${one.cidr} of ${one.cluster}/${one.node} and ${other.cidr} of ${other.cluster}/${other.node}; pods there will not reach each other`,
    );
}

/** Days a client certificate for another cluster is valid: nothing renews it but another `connect`. */
const validDays = 1095;

/** What `client` needs to read the etcd of `server`. */
async function entryFor(client: MeshAccess, server: MeshAccess): Promise<RemoteEntry> {
  const now = Date.now();
  const { cert, key } = await issueCertificate(server.authority, {
    commonName: remoteUser(client.name),
    usages: ['client'],
    notBefore: new Date(now - 300_000),
    notAfter: new Date(now + validDays * 86_400_000),
  });
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  return {
    name: server.name,
    ips: server.service.ips,
    port: server.service.port,
    tls: { cert: base64(cert), key: base64(key), caCert: base64(server.authority.cert) },
  };
}

/** Changes the list of remote clusters of a release; resolves to how many entries went. */
async function changeClusters(
  cluster: ClusterChoice,
  change: (present: readonly RemoteEntry[]) => readonly RemoteEntry[],
): Promise<number> {
  const report = (): void => undefined;
  const present = await remoteEntries(cluster);
  const clusters = change(present);
  const config = { enabled: true, clusters };
  await upgradeIsthmus({ cluster, values: { document: { clustermesh: { config } } }, report });
  const client = clientOf(cluster);
  try {
    await refreshMeshVolumes(client, cluster.namespace);
  } finally {
    client.close();
  }
  return present.filter(each => !clusters.some(other => other.name === each.name)).length;
}

async function remoteEntries(cluster: ClusterChoice): Promise<readonly RemoteEntry[]> {
  return entriesOf(await installedValues({ cluster, report: () => undefined }));
}

/** The remote clusters that values of the chart name, whichever form they have. @throws ZodError */
export function entriesOf(values: unknown): readonly RemoteEntry[] {
  return Values.parse(values).clustermesh?.config?.clusters ?? [];
}

/** Names of the clusters that a cluster is configured to connect to. */
export async function connectedClusters(cluster: ClusterChoice): Promise<readonly string[]> {
  return (await remoteEntries(cluster)).map(each => each.name);
}

async function identityOf(cluster: ClusterChoice): Promise<{ readonly name: string }> {
  const client = clientOf(cluster);
  try {
    const identity = await readMeshIdentity(client, cluster);
    checkMeshIdentity(identity, cluster.context);
    return identity;
  } finally {
    client.close();
  }
}
