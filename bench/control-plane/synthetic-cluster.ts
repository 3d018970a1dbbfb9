import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { adminUser, remoteUser, syncRemoteUsers } from '../../src/clustermesh/access.ts';
import { type EtcdServerOptions, etcdArguments, initializeEtcd } from '../../src/clustermesh/etcd-server.ts';
import { Exporter } from '../../src/clustermesh/exporter.ts';
import { addressKey, identityKey, type Kind, nodeKey, serviceKey } from '../../src/clustermesh/layout.ts';
import { formatAddress } from '../../src/clustermesh/values.ts';
import { createAuthority, issueCertificate, type KeyPair } from '../../src/clustermesh/x509.ts';
import { keepSession } from '../../src/kvstore/session.ts';
import type { EtcdRow } from '../../src/kvstore/target.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { Table } from '../../src/table/table.ts';

export const synthetic = { name: 'syn', id: 3 } as const;

const day = 86_400_000;
const perNode = 100;
const perService = 10;

/**
 * A cluster that is nothing but its mesh etcd: mutual TLS, users and authentication as the chart sets them up,
 * and in it what a clustermesh-apiserver with this many endpoints would have written. One node for 100
 * endpoints, one identity and one global service for 10.
 */
export class SyntheticCluster implements AsyncDisposable {
  readonly port: number;
  readonly #host: string;
  readonly #folder: string;
  readonly #authority: KeyPair;
  readonly #rows: Readonly<Record<Kind, Table<EtcdRow>>>;
  readonly #exporter: Exporter;
  readonly #stop = new AbortController();
  readonly #etcd: ChildProcess;
  readonly #session: Promise<void>;
  #size = 0;

  private constructor(
    host: string,
    folder: string,
    authority: KeyPair,
    server: EtcdServerOptions,
    remotes: readonly string[],
  ) {
    this.port = Number(server.listen.split(':').at(-1));
    this.#host = host;
    this.#folder = folder;
    this.#authority = authority;
    this.#etcd = spawn(server.binary, etcdArguments(server), { stdio: 'ignore' });
    const table = (): Table<EtcdRow> => new Table<EtcdRow>({ name: 'rows', keyOf: row => row.key });
    this.#rows = {
      nodes: table(),
      identities: table(),
      ip: table(),
      services: table(),
      serviceexports: table(),
    };
    const config = {
      id: synthetic.id,
      syncedCanaries: true,
      cached: false,
      maxConnectedClusters: 255,
      serviceExportsEnabled: undefined,
    } as const;
    this.#exporter = new Exporter({ cluster: synthetic.name, config, rows: this.#rows }, this.#stop.signal);
    this.#session = keepSession(
      {
        endpoints: () => [{ host, port: this.port, serverName: undefined }],
        tls: filesOf(folder, 'admin'),
        backoff: { first: 50, max: 200 },
      },
      this.#stop.signal,
      async (connection, signal) => {
        await syncRemoteUsers(connection, remotes);
        await this.#exporter.serve(connection, signal);
      },
    );
  }

  /** Starts its etcd on an address of this machine; the clusters `remotes` may read it. */
  static async start(host: string, port: number, remotes: readonly string[]): Promise<SyntheticCluster> {
    const { etcd } = await ensureBinaries(['etcd'], { report: line => console.error(line) });
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-syn-'));
    const authority = await createAuthority('syn CA', ...life(10));
    const names = { dnsNames: ['*.mesh.cilium.io'], ipAddresses: ['127.0.0.1', host] };
    await writeCertificate(folder, authority, 'server', 'clustermesh-apiserver', names);
    await writeCertificate(folder, authority, 'admin', adminUser(synthetic.name));
    const server = {
      binary: etcd,
      dataDir: join(folder, 'data'),
      listen: `${host}:${port}`,
      tls: filesOf(folder, 'server'),
      memory: true,
    };
    await initializeEtcd(server, synthetic.name, filesOf(folder, 'admin'), AbortSignal.timeout(60_000));
    return new SyntheticCluster(host, folder, authority, server, remotes);
  }

  /** Addresses of its endpoints. */
  get addresses(): string[] {
    return Array.from({ length: this.#size }, (_, n) => addressOf(n));
  }

  /** Has so many endpoints from now on; resolves when all are in etcd. */
  async resize(size: number): Promise<void> {
    this.#size = size;
    const want: Record<Kind, EtcdRow[]> = {
      nodes: [],
      identities: [],
      ip: [],
      services: [],
      serviceexports: [],
    };
    for (let n = 0; n < size / perNode; n++) want.nodes.push(nodeRow(n));
    for (let n = 0; n < size / perService; n++) {
      want.identities.push(identityRow(n));
      want.services.push(serviceRow(n));
    }
    for (let n = 0; n < size; n++) want.ip.push(endpointRow(n));
    for (const [kind, rows] of Object.entries(want) as [Kind, EtcdRow[]][]) {
      this.#rows[kind].replace(rows);
      this.#rows[kind].markSynced();
    }
    while (!this.#exporter.synced || this.#exporter.status.some(each => each.pending || each.failing))
      await pause(20);
  }

  /** Entries of the Secret cilium-clustermesh of a cluster that reads this one. */
  async remoteEntries(remote: string): Promise<Record<string, string>> {
    const { name } = synthetic;
    await writeCertificate(this.#folder, this.#authority, remote, remoteUser(remote));
    const mounted = '/var/lib/cilium/clustermesh';
    const config = [
      'endpoints:',
      `- https://${name}.mesh.cilium.io:${this.port}`,
      'cilium-host-aliases:',
      `- hostname: ${name}.mesh.cilium.io`,
      `  ips: [${this.#host}]`,
      `trusted-ca-file: ${mounted}/${name}.etcd-client-ca.crt`,
      `cert-file: ${mounted}/${name}.etcd-client.crt`,
      `key-file: ${mounted}/${name}.etcd-client.key`,
      '',
    ];
    const files = filesOf(this.#folder, remote);
    return {
      [name]: config.join('\n'),
      [`${name}.etcd-client-ca.crt`]: readFileSync(files.ca, 'utf8'),
      [`${name}.etcd-client.crt`]: readFileSync(files.cert, 'utf8'),
      [`${name}.etcd-client.key`]: readFileSync(files.key, 'utf8'),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#session;
    if (this.#etcd.exitCode === null && this.#etcd.signalCode === null) {
      this.#etcd.kill('SIGTERM');
      await once(this.#etcd, 'exit');
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const addressOf = (n: number): string =>
  `10.${100 + Math.floor(n / 25_000)}.${Math.floor(n / perNode) % 250}.${(n % perNode) + 1}`;
const nodeAddress = (n: number): string => `192.168.${100 + Math.floor(n / 200)}.${(n % 200) + 1}`;
const identityOf = (n: number): number => synthetic.id * 65_536 + 300 + n;

function nodeRow(n: number): EtcdRow {
  const { name, id } = synthetic;
  const range = addressOf(n * perNode).replace(/\d+$/, '0');
  const value = {
    Name: `node-${n}`,
    Cluster: name,
    ClusterID: id,
    IPAddresses: [
      { Type: 'InternalIP', IP: nodeAddress(n) },
      { Type: 'CiliumInternalIP', IP: range.replace(/0$/, '254') },
    ],
    IPv4AllocCIDR: { IP: range, Mask: '////AA==' },
    Labels: { 'kubernetes.io/hostname': `node-${n}` },
  };
  return { key: nodeKey(name, value.Name), value: JSON.stringify(value) };
}

function identityRow(n: number): EtcdRow {
  const labels = [
    `k8s:app=syn-${n}`,
    'k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=default',
    `k8s:io.cilium.k8s.policy.cluster=${synthetic.name}`,
    'k8s:io.cilium.k8s.policy.serviceaccount=default',
    'k8s:io.kubernetes.pod.namespace=default',
  ];
  return { key: identityKey(synthetic.name, identityOf(n)), value: `${labels.join(';')};` };
}

function serviceRow(n: number): EtcdRow {
  const { name: cluster, id } = synthetic;
  const name = `syn-${n}`;
  const ports = (port: number): object => ({ p: { Protocol: 'TCP', Port: port } });
  const backends = Array.from({ length: perService }, (_, i) => [addressOf(n * perService + i), ports(8080)]);
  const value = {
    cluster,
    namespace: 'default',
    name,
    frontends: { [`10.95.${n >> 8}.${n & 255}`]: ports(80) },
    backends: Object.fromEntries(backends),
    labels: {},
    selector: { app: name },
    includeExternal: true,
    shared: true,
    clusterID: id,
  };
  return { key: serviceKey(cluster, 'default', name), value: JSON.stringify(value) };
}

function endpointRow(n: number): EtcdRow {
  const address = addressOf(n);
  const value = formatAddress({
    address,
    nodeIp: nodeAddress(Math.floor(n / perNode)),
    identity: identityOf(Math.floor(n / perService)),
    encryptionKey: 0,
    namespace: 'default',
    pod: `syn-${n}`,
    serviceAccount: 'default',
  });
  return { key: addressKey(synthetic.name, address), value };
}

function filesOf(folder: string, name: string): { ca: string; cert: string; key: string } {
  return {
    ca: join(folder, `${name}.ca`),
    cert: join(folder, `${name}.crt`),
    key: join(folder, `${name}.key`),
  };
}

async function writeCertificate(
  folder: string,
  authority: KeyPair,
  name: string,
  commonName: string,
  names?: { readonly dnsNames: readonly string[]; readonly ipAddresses: readonly string[] },
): Promise<void> {
  const [notBefore, notAfter] = life(1);
  const usages = names ? (['server', 'client'] as const) : (['client'] as const);
  const pair = await issueCertificate(authority, { commonName, ...names, usages, notBefore, notAfter });
  const files = filesOf(folder, name);
  writeFileSync(files.ca, authority.cert);
  writeFileSync(files.cert, pair.cert);
  writeFileSync(files.key, pair.key, { mode: 0o600 });
}

function life(days: number): [notBefore: Date, notAfter: Date] {
  const at = Date.now();
  return [new Date(at - 60_000), new Date(at + days * day)];
}
