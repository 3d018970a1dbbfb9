import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { adminUser, localUser } from '../../src/clustermesh/access.ts';
import { type EtcdServerOptions, etcdArguments, initializeEtcd } from '../../src/clustermesh/etcd-server.ts';
import { createAuthority, issueCertificate, type KeyPair } from '../../src/clustermesh/x509.ts';
import type { EtcdConnection, TlsFiles } from '../../src/kvstore/connection.ts';
import type { Endpoint } from '../../src/kvstore/endpoint.ts';
import { dial, pause } from '../../src/kvstore/session.ts';
import { freePort } from '../free-port.ts';

const day = 86_400_000;

/** Path of an etcd executable: the cache of the lab, or the PATH. Undefined when there is none. */
export function findEtcd(): string | undefined {
  const cache = join(process.env.ISTHMUS_CACHE ?? join(homedir(), '.cache/isthmus'), 'bin');
  return [cache, ...(process.env.PATH ?? '').split(delimiter)]
    .map(directory => join(directory, 'etcd'))
    .find(path => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/**
 * A real etcd of one cluster, set up the way the chart does: mutual TLS, users by common name,
 * authentication on before it first listens for others.
 */
export class LocalEtcd implements AsyncDisposable {
  readonly cluster: string;
  readonly directory: string;
  readonly endpoint: Endpoint;
  readonly #authority: KeyPair;
  readonly #server: EtcdServerOptions;
  readonly #certificates = new Map<string, TlsFiles>();
  #process: ChildProcess | undefined;
  /** Further words of its command line. */
  arguments: readonly string[] = [];

  private constructor(
    cluster: string,
    directory: string,
    port: number,
    authority: KeyPair,
    server: EtcdServerOptions,
  ) {
    this.cluster = cluster;
    this.directory = directory;
    this.endpoint = { host: '127.0.0.1', port, serverName: `${cluster}.mesh.cilium.io` };
    this.#authority = authority;
    this.#server = server;
  }

  /** An initialized etcd that is running; with the authority of another one, as replicas have it. */
  static async start(cluster: string, binary: string, sibling?: LocalEtcd): Promise<LocalEtcd> {
    const directory = mkdtempSync(join(tmpdir(), `isthmus-etcd-${cluster}-`));
    const port = await freePort();
    const now = new Date();
    const end = new Date(now.getTime() + 4000 * day);
    const authority = sibling ? sibling.#authority : await createAuthority(`${cluster} CA`, now, end);
    const pair = await serverCertificate(authority);
    const tls = writePair(directory, 'server', pair, authority.cert);
    const server = { binary, dataDir: join(directory, 'data'), listen: `127.0.0.1:${port}`, tls };
    const etcd = new LocalEtcd(cluster, directory, port, authority, server);
    await etcd.initialize();
    await etcd.run();
    return etcd;
  }

  /** Empties the data directory and sets users up again: what a replaced pod does. */
  async initialize(): Promise<void> {
    const admin = await this.certificate(adminUser(this.cluster));
    await initializeEtcd(this.#server, this.cluster, admin, AbortSignal.timeout(20_000));
  }

  async run(): Promise<void> {
    const child = spawn(this.#server.binary, [...etcdArguments(this.#server), ...this.arguments], {
      stdio: 'ignore',
    });
    this.#process = child;
    const tls = await this.certificate(localUser(this.cluster));
    for (let deadline = Date.now() + 20_000; ; ) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error('etcd does not start');
      try {
        using connection = await dial([this.endpoint], { tls }, AbortSignal.timeout(2000));
        void connection;
        return;
      } catch {
        await pause(20, AbortSignal.timeout(1000));
      }
    }
  }

  /** Ends the process; `SIGSTOP` and `SIGCONT` pause and resume it. */
  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>(resolve => {
      child.once('exit', () => resolve());
      child.kill('SIGCONT');
      child.kill(signal);
    });
  }

  /** Ends it and keeps a copy of its data. */
  async backUp(): Promise<void> {
    await this.kill('SIGTERM');
    rmSync(this.#backup, { recursive: true, force: true });
    cpSync(this.#server.dataDir, this.#backup, { recursive: true });
  }

  /** Ends it and puts the copy in place of its data. */
  async restore(): Promise<void> {
    await this.kill();
    rmSync(this.#server.dataDir, { recursive: true });
    cpSync(this.#backup, this.#server.dataDir, { recursive: true });
  }

  get #backup(): string {
    return join(this.directory, 'backup');
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.#process?.kill(name);
  }

  /** Files of a client certificate with this common name, signed by the cluster's authority. */
  async certificate(commonName: string, days = 1): Promise<TlsFiles> {
    const known = this.#certificates.get(commonName);
    if (known) return known;
    const now = new Date();
    const pair = await issueCertificate(this.#authority, {
      commonName,
      usages: ['client'],
      notBefore: now,
      notAfter: new Date(now.getTime() + days * day),
    });
    const files = writePair(this.directory, commonName, pair, this.#authority.cert);
    this.#certificates.set(commonName, files);
    return files;
  }

  /** Files of a client certificate that another authority signed, whose certificate is their `ca`. */
  async foreignCertificate(commonName: string): Promise<TlsFiles> {
    const now = new Date();
    const end = new Date(now.getTime() + day);
    const authority = await createAuthority('a stranger', now, end);
    const wanted = { commonName, usages: ['client' as const], notBefore: now, notAfter: end };
    return writePair(this.directory, 'foreign', await issueCertificate(authority, wanted), authority.cert);
  }

  /** Replaces the certificates of the server and of one client in their files, as a renewed Secret does. */
  async rotate(commonName: string): Promise<void> {
    writePair(this.directory, 'server', await serverCertificate(this.#authority), this.#authority.cert);
    this.#certificates.delete(commonName);
    await this.certificate(commonName);
  }

  /** A connection as the user of this name. */
  async connect(commonName: string): Promise<EtcdConnection> {
    return dial([this.endpoint], { tls: await this.certificate(commonName) }, AbortSignal.timeout(5000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function serverCertificate(authority: KeyPair): Promise<KeyPair> {
  const now = Date.now();
  return issueCertificate(authority, {
    commonName: 'clustermesh-apiserver',
    dnsNames: ['*.mesh.cilium.io', 'localhost'],
    ipAddresses: ['127.0.0.1'],
    usages: ['server', 'client'],
    notBefore: new Date(now - 60_000),
    notAfter: new Date(now + day),
  });
}

function writePair(directory: string, name: string, pair: KeyPair, ca: string): TlsFiles {
  const files = {
    ca: join(directory, `${name}-ca.crt`),
    cert: join(directory, `${name}.crt`),
    key: join(directory, `${name}.key`),
  };
  writeFileSync(files.ca, ca);
  writeFileSync(files.cert, pair.cert);
  writeFileSync(files.key, pair.key, { mode: 0o600 });
  return files;
}

/** Resolves when `condition` holds; looks again at each turn of a few milliseconds. */
export async function until(condition: () => boolean, what: string, milliseconds = 30_000): Promise<void> {
  for (const deadline = Date.now() + milliseconds; !condition(); ) {
    if (Date.now() > deadline) throw new Error(`not so after ${milliseconds} ms: ${what}`);
    await new Promise(resolve => setTimeout(resolve, 2));
  }
}

/** Milliseconds of processor time of the quickest of some tries: other work on the machine must not fail a test of speed. */
export async function quickest(tries: number, work: () => Promise<void>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < tries; i++) {
    const before = process.cpuUsage();
    await work();
    const { user, system } = process.cpuUsage(before);
    best = Math.min(best, (user + system) / 1000);
  }
  return best;
}
