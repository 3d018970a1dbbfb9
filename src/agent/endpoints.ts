/**
 * The endpoints of this node: made and removed at the plugin's call, found again after a restart. The truth
 * is what exists: an endpoint lives while the host side of its veth does.
 */
import { randomBytes } from 'node:crypto';
import { changeLink, deleteLink, type Link, linkByName, listLinks } from '../datapath/link.ts';
import type { Netlink } from '../datapath/netlink.ts';
import { macText } from '../datapath/netlink-address.ts';
import type { Logger } from '../log.ts';
import type { ReadonlyTable, Table } from '../table/table.ts';
import { CniCode, CniError, type CniRequest } from './cni-request.ts';
import {
  addressText,
  attachmentKey,
  type Endpoint,
  type EndpointMapRow,
  endpointKey,
  endpointTable,
  fromPodPin,
  hostInterfaceName,
  isHostInterfaceName,
} from './endpoint.ts';
import type { EndpointFiles } from './endpoint-files.ts';
import { judgeEndpoints, recoverEndpoints } from './endpoint-restore.ts';
import type { Ipam } from './ipam.ts';

/** What is needed of the datapath: programs on devices, kept by pins. `Datapath` has it. */
export interface EndpointPrograms {
  attachDevice(program: 'from_pod', ifindex: number, direction: 'ingress', pinName: string): void;
  attachNewDevice(program: 'from_pod', ifindex: number, direction: 'ingress', pinName: string): Promise<void>;
  detach(pinName: string): void;
  pinned(): string[];
}

/** Addresses of one family for pods. */
export interface EndpointFamily {
  readonly family: 4 | 6;
  readonly ipam: Ipam;
  /** The node's internal IP. */
  readonly gateway: string;
}

export interface EndpointsOptions {
  readonly netlink: Netlink;
  readonly programs: EndpointPrograms;
  /** The families of the cluster: IPv4, IPv6 or both. */
  readonly families: readonly EndpointFamily[];
  readonly files: EndpointFiles;
  /** Rows of the pinned map `endpoints`, from which an endpoint whose file is lost is recovered. */
  readonly mapRows?: () => Iterable<EndpointMapRow>;
  /** MTU of the pods' devices. */
  readonly mtu: number;
  readonly log: Logger;
  /** Milliseconds an ADD may take before what it left is removed; longer than the plugin waits. */
  readonly addGrace?: number;
  readonly now?: () => Date;
}

export class Endpoints {
  readonly #table: Table<Endpoint> = endpointTable();
  readonly #options: EndpointsOptions;
  readonly #now: () => Date;
  #lastId = 0;

  constructor(options: EndpointsOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /** All endpoints, of every state. Synced after `restore`. */
  get table(): ReadonlyTable<Endpoint> {
    return this.#table;
  }

  /** Adopts what the run before left: claims addresses, puts programs on again, forgets what is dead. */
  restore(): void {
    const { files, log, netlink } = this.#options;
    const onFile = files.load((file, reason) => log.error({ file, reason }, 'endpoint file set aside'));
    const links = listLinks(netlink);
    const recovered = recoverEndpoints(onFile, {
      links,
      rows: this.#options.mapRows?.() ?? [],
      gateways: this.#gateways(),
      createdAt: this.#now().toISOString(),
    });
    for (const endpoint of recovered) {
      log.warn(
        { endpoint: endpointKey(endpoint), address: addressText(endpoint) },
        'endpoint without a file recovered',
      );
      files.save(endpoint);
    }
    const judged = judgeEndpoints([...onFile, ...recovered], links);
    for (const endpoint of [...judged.live, ...judged.creating]) {
      const key = endpointKey(endpoint);
      if (!this.#claim(endpoint, key)) {
        const address = addressText(endpoint);
        log.error({ endpoint: key, address }, 'address of a restored endpoint is taken: removed');
        files.remove(endpoint.id);
        continue;
      }
      this.#lastId = Math.max(this.#lastId, endpoint.id);
      if (endpoint.ifindex && !this.#protect(endpoint)) {
        this.#release(key);
        files.remove(endpoint.id);
      } else this.#table.upsert(endpoint);
    }
    for (const { endpoint, reason } of judged.dead) {
      log.info(
        { endpoint: endpointKey(endpoint), address: addressText(endpoint), reason },
        'endpoint is gone',
      );
      files.remove(endpoint.id);
    }
    this.#table.markSynced();
    log.info({ endpoints: this.#table.size, gone: judged.dead.length }, 'endpoints restored');
  }

  /**
   * Reserves what an ADD needs and keeps it on file; the same attachment asking again gets the same.
   * Throws CniError when no address is left.
   */
  begin(request: CniRequest): Endpoint {
    const key = attachmentKey(request.containerId, request.ifName);
    const before = this.#table.get(key);
    const hostIfName = hostInterfaceName(key);
    for (const other of this.#table.values())
      if (other.hostIfName === hostIfName && endpointKey(other) !== key)
        throw new CniError(
          CniCode.tryAgainLater,
          `device name ${hostIfName} is taken by ${endpointKey(other)}`,
        );
    const addresses = this.#allocate(key);
    const endpoint: Endpoint = {
      id: before?.id ?? this.#freeId(),
      containerId: request.containerId,
      ifName: request.ifName,
      netns: request.netns,
      network: request.network,
      hostIfName,
      ifindex: 0,
      ...addresses,
      mtu: this.#options.mtu,
      mac: before?.mac ?? randomMac(),
      hostMac: before?.hostMac ?? randomMac(),
      namespace: request.namespace,
      podName: request.podName,
      podUid: request.podUid,
      portMappings: request.portMappings,
      state: 'creating',
      createdAt: this.#now().toISOString(),
    };
    this.#keep(endpoint);
    return endpoint;
  }

  /** The veth is there, its host side still down: the program goes on it. */
  async attach(key: string, ifindex: number): Promise<void> {
    const { hostIfName } = this.#get(key);
    // On another thread, and no look at the device first: while pods come and go by the dozen, the kernel's
    // lock on devices is taken for hundreds of milliseconds, and the process must not wait for it.
    await this.#options.programs.attachNewDevice('from_pod', ifindex, 'ingress', fromPodPin(hostIfName));
    this.#keep({ ...this.#get(key), ifindex });
  }

  /** Traffic may be delivered to the endpoint from now on. An identity that was set meanwhile is the newer one. */
  markReady(key: string, known: number | undefined): Endpoint {
    const endpoint = this.#get(key);
    const identity = endpoint.identity ?? known;
    const ready: Endpoint = { ...endpoint, state: 'ready', ...(identity !== undefined && { identity }) };
    this.#keep(ready);
    return ready;
  }

  /** The identity became known or changed. Nothing happens if the endpoint is gone. */
  setIdentity(key: string, identity: number): void {
    const endpoint = this.#table.get(key);
    if (endpoint && endpoint.identity !== identity) this.#keep({ ...endpoint, identity });
  }

  /** Names the pod of an endpoint that was recovered without its file. */
  namePod(key: string, pod: Pick<Endpoint, 'namespace' | 'podName' | 'podUid'>): void {
    const endpoint = this.#table.get(key);
    if (endpoint) this.#keep({ ...endpoint, ...pod });
  }

  /** No traffic is delivered to the endpoint any more; its address stays taken until `remove`. */
  markDeleting(key: string): void {
    const endpoint = this.#table.get(key);
    if (endpoint) this.#keep({ ...endpoint, state: 'deleting' });
  }

  /** Forgets an endpoint whose device is gone. False if there was none. */
  remove(key: string): boolean {
    const endpoint = this.#table.get(key);
    if (!endpoint) return false;
    this.#options.programs.detach(fromPodPin(endpoint.hostIfName));
    this.#table.delete(key);
    this.#options.files.remove(endpoint.id);
    this.#release(key);
    return true;
  }

  /** What is wrong with the host side of an endpoint; undefined if nothing is. */
  hostProblem(endpoint: Endpoint): string | undefined {
    const { netlink, programs } = this.#options;
    if (endpoint.state !== 'ready') return `the endpoint is ${endpoint.state}`;
    const link = linkByName(netlink, endpoint.hostIfName);
    if (!link) return `device ${endpoint.hostIfName} is gone`;
    if (link.index !== endpoint.ifindex || link.mac !== endpoint.hostMac)
      return `device ${endpoint.hostIfName} is another one`;
    if (!link.up) return `device ${endpoint.hostIfName} is down`;
    if (!programs.pinned().includes(fromPodPin(endpoint.hostIfName)))
      return `no program is attached to ${endpoint.hostIfName}`;
    return undefined;
  }

  /**
   * Removes what has no owner: endpoints whose device is gone, ADDs that never ended, devices and pins of no
   * endpoint. Devices go one a turn, because the kernel takes some milliseconds for each.
   */
  async sweep(signal?: AbortSignal): Promise<void> {
    const { log, netlink, programs } = this.#options;
    const links = new Map(listLinks(netlink).map(link => [link.name, link]));
    const expired = this.#now().getTime() - (this.#options.addGrace ?? 120_000);
    for (const endpoint of [...this.#table.values()]) {
      const key = endpointKey(endpoint);
      const link = links.get(endpoint.hostIfName);
      const abandoned = endpoint.state === 'creating' && Date.parse(endpoint.createdAt) < expired;
      if (!abandoned && (endpoint.state === 'creating' || (link && link.alias === key))) continue;
      log.info(
        { endpoint: key, address: addressText(endpoint), state: endpoint.state },
        'endpoint without a pod removed',
      );
      this.remove(key);
    }
    const owned = new Set(Array.from(this.#table.values(), each => each.hostIfName));
    for (const pin of programs.pinned())
      if (pin.startsWith(fromPodPin('ist')) && !owned.has(pin.slice(fromPodPin('').length)))
        programs.detach(pin);
    for (const link of links.values()) {
      if (!isLeaked(link, owned)) continue;
      await new Promise<void>(resolve => setImmediate(resolve));
      if (signal?.aborted) return;
      // An ADD may have taken the name meanwhile.
      if (this.#ownerOf(link.name)) continue;
      log.info({ device: link.name, of: link.alias }, 'device of no endpoint removed');
      deleteLink(netlink, link.index);
    }
  }

  /** Deletes the host device an ADD that ended badly may have left. */
  deleteDevice(endpoint: Endpoint): void {
    deleteLink(this.#options.netlink, endpoint.hostIfName);
  }

  #get(key: string): Endpoint {
    const endpoint = this.#table.get(key);
    if (!endpoint) throw new CniError(CniCode.unknownContainer, `endpoint ${key} was removed meanwhile`);
    return endpoint;
  }

  #keep(endpoint: Endpoint): void {
    this.#options.files.save(endpoint);
    this.#table.upsert(endpoint);
  }

  #ownerOf(hostIfName: string): boolean {
    for (const endpoint of this.#table.values()) if (endpoint.hostIfName === hostIfName) return true;
    return false;
  }

  /** Puts the program on a restored endpoint's device; false if the device went away in this moment. */
  #protect(endpoint: Endpoint): boolean {
    const { netlink, programs } = this.#options;
    try {
      programs.attachDevice('from_pod', endpoint.ifindex, 'ingress', fromPodPin(endpoint.hostIfName));
      if (endpoint.state === 'ready') changeLink(netlink, endpoint.ifindex, { up: true });
      return true;
    } catch (error) {
      if (linkByName(netlink, endpoint.hostIfName)) throw error;
      programs.detach(fromPodPin(endpoint.hostIfName));
      return false;
    }
  }

  #gateways(): Pick<Endpoint, 'gateway' | 'gateway6'> {
    const of = (wanted: 4 | 6): string | undefined =>
      this.#options.families.find(({ family }) => family === wanted)?.gateway;
    const [gateway, gateway6] = [of(4), of(6)];
    return { ...(gateway && { gateway }), ...(gateway6 && { gateway6 }) };
  }

  /** An address of every family, or none. */
  #allocate(key: string): Pick<Endpoint, 'ipv4' | 'gateway' | 'ipv6' | 'gateway6'> {
    const given: Record<string, string> = {};
    for (const { family, ipam, gateway } of this.#options.families) {
      const address = ipam.allocate(key);
      if (address === undefined) {
        if (!this.#table.has(key)) this.#release(key);
        throw new CniError(
          CniCode.tryAgainLater,
          `no free IPv${family} address in the pod CIDR of this node`,
          `${ipam.used} in use`,
        );
      }
      Object.assign(given, family === 4 ? { ipv4: address, gateway } : { ipv6: address, gateway6: gateway });
    }
    return given;
  }

  /** All addresses of an endpoint found at start, or none; of a family the cluster has no more they are nobody's. */
  #claim(endpoint: Endpoint, key: string): boolean {
    for (const { family, ipam } of this.#options.families) {
      const address = family === 4 ? endpoint.ipv4 : endpoint.ipv6;
      if (address === undefined || ipam.claim(address, key)) continue;
      this.#release(key);
      return false;
    }
    return true;
  }

  #release(key: string): void {
    for (const { ipam } of this.#options.families) ipam.release(key);
  }

  #freeId(): number {
    for (let tried = 0; tried < 65535; tried++) {
      this.#lastId = (this.#lastId % 65535) + 1;
      if (this.#table.by('id', String(this.#lastId))[Symbol.iterator]().next().done) return this.#lastId;
    }
    throw new CniError(CniCode.tryAgainLater, 'no free endpoint ID on this node');
  }
}

const isLeaked = (link: Link, owned: ReadonlySet<string>): boolean =>
  link.kind === 'veth' && isHostInterfaceName(link.name) && !owned.has(link.name);

/** A random unicast address of the locally administered kind. */
function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = (bytes[0]! & 0xfc) | 0x02;
  return macText(bytes);
}
