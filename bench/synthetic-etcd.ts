import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { adminUser } from '../src/clustermesh/access.ts';
import { type EtcdServerOptions, etcdArguments, initializeEtcd } from '../src/clustermesh/etcd-server.ts';
import { createAuthority, issueCertificate, type KeyPair } from '../src/clustermesh/x509.ts';
import type { EtcdConnection, TlsFiles } from '../src/kvstore/connection.ts';
import { dial, pause } from '../src/kvstore/session.ts';
import { ensureBinaries } from '../src/lab/binaries.ts';

const day = 86_400_000;
const mounted = '/var/lib/cilium/clustermesh';

/**
 * A mesh etcd on an address of this machine, so that a lab's nodes reach it, set up as the chart does: mutual TLS,
 * users by common name, authentication on.
 */
export class SyntheticEtcd implements AsyncDisposable {
  /** Cluster whose users it has. */
  readonly cluster: string;
  readonly host: string;
  readonly port: number;
  readonly #folder: string;
  readonly #authority: KeyPair;
  readonly #server: EtcdServerOptions;
  readonly #within: readonly string[];
  #process: ChildProcess;

  private constructor(
    cluster: string,
    host: string,
    folder: string,
    key: KeyPair,
    server: EtcdServerOptions,
    within: readonly string[],
  ) {
    this.cluster = cluster;
    this.host = host;
    this.port = Number(server.listen.split(':').at(-1));
    this.#folder = folder;
    this.#authority = key;
    this.#server = server;
    this.#within = within;
    this.#process = this.#spawn();
  }

  /** `within`: words of a command line that runs another one, such as nsenter. */
  static async start(
    cluster: string,
    host: string,
    port: number,
    within: readonly string[] = [],
  ): Promise<SyntheticEtcd> {
    const { etcd } = await ensureBinaries(['etcd'], { report: line => console.error(line) });
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-etcd-'));
    const authority = await createAuthority(`${cluster} CA`, ...life(90));
    const names = { dnsNames: ['*.mesh.cilium.io'], ipAddresses: ['127.0.0.1', host] };
    await writeCertificate(folder, authority, 'server', 'clustermesh-apiserver', names);
    await writeCertificate(folder, authority, 'admin', adminUser(cluster));
    const server = {
      binary: etcd,
      dataDir: join(folder, 'data'),
      listen: `${host}:${port}`,
      tls: filesOf(folder, 'server'),
      memory: true,
    };
    await initializeEtcd(server, cluster, filesOf(folder, 'admin'), AbortSignal.timeout(60_000));
    return new SyntheticEtcd(cluster, host, folder, authority, server, within);
  }

  get pid(): number {
    return this.#process.pid!;
  }

  /** Certificate files of its administrator. */
  get admin(): TlsFiles {
    return filesOf(this.#folder, 'admin');
  }

  /** A connection of its administrator, once it serves. */
  async connect(): Promise<EtcdConnection> {
    const endpoint = { host: this.host, port: this.port, serverName: undefined };
    for (const limit = AbortSignal.timeout(60_000); ; await pause(20, limit))
      try {
        return await dial([endpoint], { tls: this.admin, requestTimeout: 60_000 }, limit);
      } catch (error) {
        if (limit.aborted) throw error;
      }
  }

  /** Ends the process without a word, and starts another on the same data. */
  async crash(): Promise<void> {
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
    this.#process = this.#spawn();
  }

  #spawn(): ChildProcess {
    const [command, ...words] = [...this.#within, this.#server.binary, ...etcdArguments(this.#server)];
    return spawn(command!, words, { stdio: 'ignore' });
  }

  /** Files of a certificate with this common name. */
  async certificate(user: string): Promise<TlsFiles> {
    await writeCertificate(this.#folder, this.#authority, user, user);
    return filesOf(this.#folder, user);
  }

  /**
   * Entries of the Secret cilium-clustermesh of a cluster that reads these clusters here as `user`, all with the same
   * certificate.
   */
  async remoteEntries(user: string, clusters: readonly string[]): Promise<Record<string, string>> {
    const files = await this.certificate(user);
    const name = (what: string): string => `${user}-etcd-client${what}`;
    const configs = clusters.map(cluster => {
      const lines = [
        'endpoints:',
        `- https://${cluster}.mesh.cilium.io:${this.port}`,
        'cilium-host-aliases:',
        `- hostname: ${cluster}.mesh.cilium.io`,
        `  ips: [${this.host}]`,
        `trusted-ca-file: ${mounted}/${name('-ca.crt')}`,
        `cert-file: ${mounted}/${name('.crt')}`,
        `key-file: ${mounted}/${name('.key')}`,
        '',
      ];
      return [cluster, lines.join('\n')];
    });
    return {
      ...Object.fromEntries(configs),
      [name('-ca.crt')]: readFileSync(files.ca, 'utf8'),
      [name('.crt')]: readFileSync(files.cert, 'utf8'),
      [name('.key')]: readFileSync(files.key, 'utf8'),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill('SIGTERM');
      await once(this.#process, 'exit');
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function filesOf(folder: string, name: string): TlsFiles {
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
  const [notBefore, notAfter] = life(60);
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
