import { isIP } from 'node:net';
import { join } from 'node:path';
import { deriveDeadNodes, tellDeadNodes } from '../clustermesh/dead-nodes.ts';
import type { RemoteClusters } from '../clustermesh/remote-clusters.ts';
import { type RemoteTables, remoteTables } from '../clustermesh/rows.ts';
import { deriveVerdicts, loneWordTable, type Verdicts } from '../clustermesh/verdict-tables.ts';
import type { Accusation } from '../clustermesh/verdicts.ts';
import { EchoSocket } from '../datapath/echo-socket.ts';
import type { L2ResponderKey, L2ResponderValue } from '../datapath/l2-responder.ts';
import { watchLinks } from '../datapath/link-watch.ts';
import { Netlink } from '../datapath/netlink.ts';
import type { Datapath, MapName } from '../datapath/object.ts';
import type { KubeClient } from '../kube/client.ts';
import { EventRecorder } from '../kube/events.ts';
import { Pulse } from '../kube/pulse.ts';
import { pathOf, resources, typeOf } from '../kube/resource.ts';
import { log, logOf } from '../log.ts';
import { packageRoot } from '../package-root.ts';
import { Reconciler, type ReconcilerStatus } from '../table/reconciler.ts';
import type { Table } from '../table/table.ts';
import { publishAccusation } from './accusation.ts';
import { derivePublishedEndpoints, type PublishedEndpoint, publishTarget } from './cilium-endpoints.ts';
import { cleanNode } from './cleanup.ts';
import { ClusterEvents } from './cluster-events.ts';
import { cniPaths, installPlugin, keepConfiguration, removeConfiguration } from './cni-config.ts';
import { type CniServerOptions, serveCni } from './cni-server.ts';
import { type AgentConfig, type Environment, familiesOf } from './config.ts';
import { type DatapathState, runDatapathState } from './datapath-state.ts';
import { tellDeadClusters } from './dead-clusters.ts';
import { type Devices, ensureDevices } from './devices.ts';
import type { EndpointMapRow } from './endpoint.ts';
import { endpointFiles } from './endpoint-files.ts';
import { EndpointLog } from './endpoint-log.ts';
import { Endpoints } from './endpoints.ts';
import { FlowCollector } from './flow-collector.ts';
import { watchHostAddresses } from './host-addresses.ts';
import { createIpam, type Ipam } from './ipam.ts';
import { watchKernelRoutes } from './kernel-routes.ts';
import { type L2Announcements, type L2Options, runL2Announcements } from './l2-announcements.ts';
import { isAdopting, loadPrograms } from './load-programs.ts';
import { type MapFill, PressureNews } from './map-pressure.ts';
import { NatExhaustionNews } from './nat-exhaustion.ts';
import { type NodeFamily, type ReadyNode, toldAddresses, whenNodeReady } from './own-node.ts';
import { type PacketCount, packetCounts } from './packet-counts.ts';
import { type PodIdentities, runPodIdentities } from './pod-identities.ts';
import { nextRoundAt, Probes } from './probes.ts';
import { attachPrograms, cgroup2Folder, deferPrograms } from './programs.ts';
import type { ProxyHealth } from './proxy-health.ts';
import { type NodePublication, publishNode } from './publish-node.ts';
import { whenQuiet } from './quiet.ts';
import { nameRecoveredEndpoints } from './recovered-pods.ts';
import type { Services } from './services.ts';
import { readSources, type Sources } from './sources.ts';
import { unmasqueradedPrefixes } from './unmasqueraded.ts';
import { UnreachableNodes } from './unreachable-nodes.ts';
import { findUplinks, type Uplink } from './uplink.ts';
import { whenPresent, whenTrue } from './wait.ts';

export interface NodeAgentOptions {
  readonly config: AgentConfig;
  readonly environment: Environment;
  readonly client: KubeClient;
  readonly signal: AbortSignal;
}

/** What runs once the node is known. */
export interface NodeParts {
  readonly node: ReadyNode;
  readonly uplinks: readonly Uplink[];
  readonly devices: Devices;
  readonly datapath: Datapath;
  readonly ipams: readonly Ipam[];
  readonly endpoints: Endpoints;
  readonly identities: PodIdentities;
  readonly state: DatapathState;
  readonly published: Reconciler<PublishedEndpoint>;
  readonly publication: NodePublication;
  readonly collector: FlowCollector;
}

const RUN_FOLDER = '/run/isthmus';
/** Longer than an operator takes to be scheduled and to make the definitions on a fresh cluster. */
const SYNC_TIMEOUT = 180_000;
const ROUTE_REPAIR = 60_000;
/** Milliseconds between two questions whether the API server answers: a thousand agents ask a hundred a second. */
const PULSE = 10_000;
/** Milliseconds between two looks at how full the maps are. */
const PRESSURE_LOOK = 30_000;

/**
 * The node daemon as one pipeline: the API server and other clusters → tables → derivations → maps, routes
 * and objects. Pods are taken in last, when the datapath works.
 */
export class NodeAgent {
  /** Why the agent does not do its work yet; undefined when it does. */
  starting: string | undefined = 'it has just been started';
  readonly config: AgentConfig;
  readonly nodeName: string;
  sources: Sources | undefined;
  remote: RemoteClusters | undefined;
  parts: NodeParts | undefined;
  services: Services | undefined;
  l2: L2Announcements | undefined;
  unreachableNodes: UnreachableNodes | undefined;
  probes: Probes | undefined;
  /** Whether the API server answers; there is none where nothing is probed. */
  pulse: Pulse | undefined;
  endpointLog: EndpointLog | undefined;
  /** The node was taken back to what it was before: nothing is made on it any more. */
  cleanedUp = false;
  /** Told of every call of the CNI plugin that ended, for metrics. */
  onCniCall: CniServerOptions['onCall'];
  readonly #options: NodeAgentOptions;
  /** Ends everything that writes, at SIGTERM or before a clean-up. */
  readonly #stop = new AbortController();
  readonly #failed = Promise.withResolvers<never>();
  #cni: AsyncDisposable | undefined;

  constructor(options: NodeAgentOptions) {
    this.#failed.promise.catch(() => undefined);
    this.#options = options;
    this.config = options.config;
    this.nodeName = options.environment.K8S_NODE_NAME;
    options.signal.addEventListener('abort', () => this.#stop.abort(options.signal.reason), { once: true });
  }

  /** Rejects when the agent can not go on as it was set up, and has to start anew. */
  get failed(): Promise<never> {
    return this.#failed.promise;
  }

  /** Everything that writes, by name. */
  get reconcilers(): Readonly<Record<string, { readonly status: ReconcilerStatus }>> {
    if (!this.parts) return {};
    const { state, published, publication } = this.parts;
    const services = this.services ? { services: this.services.reconciler } : {};
    const l2 = this.l2 ? { 'l2-responders': this.l2.reconciler } : {};
    return {
      ...state.reconcilers,
      ...services,
      ...l2,
      'cilium-endpoints': published,
      'cilium-node': publication.reconciler,
    };
  }

  /** How full the maps are; those that packets write as the last walk found them. */
  mapFills(): MapFill[] {
    if (!this.parts) return [];
    const { datapath, endpoints, state, collector } = this.parts;
    const counts = this.services?.balancer.counts;
    const rows: readonly (readonly [MapName, number | undefined])[] = [
      ['endpoints', endpoints.table.size],
      ['nodes', state.nodes.size],
      ['ipcache', state.ipcache.size],
      ['frontends', counts?.frontends],
      ['slots', counts?.slots],
      ['backends', counts?.backends],
    ];
    return [
      ...rows.flatMap(([map, count]) =>
        count === undefined ? [] : [{ map, rows: count, maxEntries: datapath.map(map).maxEntries }],
      ),
      ...[...collector.collected].map(([map, { rows, maxEntries }]) => ({ map, rows, maxEntries })),
    ];
  }

  /** Whether services work here, and whether the node is to stay. */
  get proxyHealth(): ProxyHealth {
    return {
      healthy: this.starting === undefined,
      nodeEligible: this.sources?.node.get(this.nodeName)?.leaving === false,
    };
  }

  /** What the programs have counted, by reason and direction. */
  packetCounts(): readonly PacketCount[] {
    return this.parts ? packetCounts(this.parts.datapath) : [];
  }

  /** Resolves when pods can be added; the node's runtime has been told so. Throws when that cannot be. */
  start(): Promise<AsyncDisposable> {
    return Promise.race([this.#start(), this.failed]);
  }

  async #start(): Promise<AsyncDisposable> {
    const { config } = this;
    const { client, environment } = this.#options;
    const signal = this.#stop.signal;
    const netlink = new Netlink();
    const families = familiesOf(config);
    const sources = readSources(client, this.nodeName, families, signal, () => this.pulse?.doubt());
    this.sources = sources;
    const node = await whenNodeReady(sources.node, this.nodeName, {
      families,
      override: environment.NODE_IP,
      signal,
      waiting: reason => this.#waitFor(reason),
    });

    this.#watchOwnNode(sources, node);
    // After a reboot the configuration of before is still there, but nothing that it promises.
    if (!isAdopting(config)) removeConfiguration(cniPaths);

    this.#waitFor('devices and programs are being set up');
    const internalAddresses = node.families.map(each => each.internalAddress);
    const uplinks = findUplinks(netlink, { devices: config.devices, nodeIp: node.address });
    const devices = ensureDevices({
      netlink,
      uplinks,
      internalIps: internalAddresses,
      underlay: node.families[0]!.family,
      tunnelPort: config['tunnel-port'],
      withoutTunnel: config['routing-mode'] === 'native',
      mtu: config.mtu,
      log: logOf('devices'),
    });
    for (const warning of devices.warnings) log.warn(warning);
    this.#watchDevices(devices, uplinks);
    const cgroup = cgroup2Folder(config['cgroup-root']);
    const datapath = loadPrograms({ config, node, devices });
    log.info({ 'attach mode': datapath.attachMode }, 'programs loaded');
    const hostAddresses = watchHostAddresses(netlink, signal, families);
    const endpointFamilies = node.families.map(({ family, podCidrs, internalAddress }) => ({
      family,
      ipam: createIpam({ cidrs: podCidrs, reserved: [internalAddress], now: () => performance.now() }),
      gateway: internalAddress,
    }));
    const programs = deferPrograms(datapath);
    const endpoints = new Endpoints({
      netlink,
      programs,
      families: endpointFamilies,
      files: endpointFiles(join(RUN_FOLDER, 'endpoints')),
      mapRows: () =>
        Array.from(
          datapath.map<EndpointMapRow['key'], EndpointMapRow['value']>('endpoints').entries(),
          ([key, value]) => ({ key, value }),
        ),
      mtu: devices.podMtu,
      log: logOf('endpoints'),
    });
    endpoints.restore();
    this.endpointLog = new EndpointLog(endpoints.table);
    nameRecoveredEndpoints(endpoints, sources.pods);
    const identities = runPodIdentities({
      client,
      sources,
      endpoints,
      cluster: config['cluster-name'],
      clusterId: config['cluster-id'],
      maxClusters: config['max-connected-clusters'],
      labels: config.labels,
      signal,
      log: logOf('identity'),
    });
    const alone = loneWordTable();
    const verdicts = deriveVerdicts(sources.nodes, alone);
    const events = this.#clusterEvents(sources, verdicts);
    this.unreachableNodes = new UnreachableNodes({
      verdicts: verdicts.nodes,
      nodes: sources.nodes,
      events,
      now: () => performance.now(),
    });
    const remote = await this.#remoteTables(sources, verdicts);
    const deadRemoteNodes = deriveDeadNodes({
      clusters: remote.clusters,
      nodes: remote.nodes,
      verdicts: verdicts.remoteNodes,
    });
    tellDeadNodes(deadRemoteNodes);
    tellDeadClusters(remote.clusters, events, environment.POD_NAMESPACE);
    const state = runDatapathState({
      datapath,
      netlink,
      sources,
      remote,
      nodeVerdicts: verdicts.nodes,
      deadRemoteNodes,
      endpoints: endpoints.table,
      hostAddresses,
      uplinks: uplinks.map(each => each.ifindex),
      kernelRoutes: watchKernelRoutes(
        netlink,
        config['routing-mode'],
        [devices.host, devices.net, devices.vxlan].map(each => each.index),
        signal,
      ),
      routing: {
        mode: config['routing-mode'],
        topology: config['subnet-topology'],
        neighbourRoutes: config['auto-direct-node-routes'],
      },
      unmasqueraded: unmasqueradedPrefixes(config),
      cluster: config['cluster-name'],
      clusterId: config['cluster-id'],
      node: { name: node.name, addresses: toldAddresses(node), podCidrs: node.podCidrs, internalAddresses },
      hostIfindex: devices.host.index,
      mtu: devices.tunnelMtu,
      signal,
      algorithm: config['bpf-lb-algorithm'],
      forwarding: config['bpf-lb-mode'],
      maglevSize: config['bpf-lb-maglev-table-size'],
      healthy: () => this.starting === undefined,
      onServiceProblem: ({ namespace, name, uid }, message) => {
        log.warn({ service: `${namespace}/${name}`, problem: message }, 'service');
        events.warn({ apiVersion: 'v1', kind: 'Service', namespace, name, uid }, 'InvalidService', message);
      },
      log: logOf('datapath'),
    });
    const published = this.#publish(sources, endpoints, node);
    const publication = this.#publishNode(sources, node);
    const collector = new FlowCollector({
      maps: [datapath.map('conntrack'), datapath.map('nat')],
      signal,
      onError: (map, error) =>
        log.warn({ map, error: error.message }, 'flows that ended could not be removed'),
    });
    this.parts = {
      node,
      uplinks,
      devices,
      datapath,
      ipams: endpointFamilies.map(each => each.ipam),
      endpoints,
      identities,
      state,
      published,
      publication,
      collector,
    };

    await this.#whenRead(sources);
    this.#waitFor(`CiliumNode ${this.nodeName} is being written`);
    await whenPresent(sources.nodes, this.nodeName, signal);
    this.#waitFor('maps are being filled');
    const services = await state.services;
    this.services = services;
    await whenQuiet([...Object.values(state.reconcilers), services.reconciler], signal);
    // Maps of a new layout begin empty: what other clusters say has to be in them before they are used.
    if (datapath.staleMaps().length) await this.#whenHeard(remote, state);
    await this.#takeOverFlows(datapath);
    // The uplinks' first: what pods' new programs may send without a tunnel, theirs let pass as it is.
    attachPrograms({ datapath, devices, uplinks, cgroup });
    programs.release((pin, error) => log.warn({ pin, error }, 'program of a pod'));
    // Once more: flows that began while the programs were exchanged.
    await this.#takeOverFlows(datapath);
    datapath.unpinStaleMaps();
    const responders = datapath.map<L2ResponderKey, L2ResponderValue>('l2_responders');
    if (config['enable-l2-announcements']) this.l2 = this.#announce(sources, responders, uplinks, events);
    // Switched off: nothing of before may go on answering.
    else for (const [key] of [...responders.entries()]) responders.delete(key);
    publication.attached();

    installPlugin(join(packageRoot, 'cni/isthmus-cni'), cniPaths);
    const cni = await serveCni({
      endpoints,
      log: logOf('cni'),
      identify: endpoint => identities.identify(endpoint),
      programmed: key => state.programmed(key),
      problem: () => (this.#stop.signal.aborted ? 'the agent ends' : undefined),
      onCall: (command, milliseconds, code) => this.onCniCall?.(command, milliseconds, code),
    });
    this.#cni = cni;
    keepConfiguration({ ...cniPaths, exclusive: config['cni-exclusive'], log: logOf('cni'), signal });
    this.starting = undefined;
    if (config['enable-health-checking']) this.#probe(sources, remote, verdicts, alone);
    // Somebody may have flushed routes: ours come back.
    const repair = setInterval(() => void state.reconcilers.routes?.repair(), ROUTE_REPAIR).unref();
    const news = new PressureNews();
    const exhaustion = new NatExhaustionNews(packetCounts(datapath));
    const pressure = setInterval(() => {
      for (const warning of news.of(this.mapFills())) log.warn(warning);
      const exhausted = exhaustion.of(packetCounts(datapath));
      if (exhausted !== undefined) log.warn(exhausted);
    }, PRESSURE_LOOK).unref();
    return {
      [Symbol.asyncDispose]: async () => {
        clearInterval(repair);
        clearInterval(pressure);
        this.#stop.abort();
        await cni[Symbol.asyncDispose]();
        netlink[Symbol.dispose]();
      },
    };
  }

  /** Takes the node back to what it was before; from then on the agent is idle, until its pod goes. */
  async cleanUp(): Promise<object> {
    this.cleanedUp = true;
    this.starting = 'the node was cleaned up: the agent is idle until its pod goes';
    this.#stop.abort(new Error('clean-up'));
    await this.#cni?.[Symbol.asyncDispose]();
    const { failed } = cleanNode({ bpffs: this.config['bpf-root'], cniPaths });
    if (failed.length) throw new Error(failed.join('; '));
    return {};
  }

  #waitFor(reason: string): void {
    this.starting = reason;
    log.info({ reason }, 'not ready yet');
  }

  /** What everything is built on: a Node that comes back with another address or pod CIDR needs a new start. */
  #watchOwnNode(sources: Sources, node: ReadyNode): void {
    const override = this.#options.environment.NODE_IP;
    sources.node.subscribe(({ after }) => {
      if (!after?.podCidrs.length) return;
      // One that has lost an address for a moment is as it was.
      const address = ({ family, address }: NodeFamily): string =>
        override !== undefined && isIP(override) === family
          ? address
          : (after.addresses.find(each => each.type === 'InternalIP' && isIP(each.ip) === family)?.ip ??
            address);
      const [was, is] = [
        `${node.families.map(each => each.address).join(',')} ${node.podCidrs.join(',')}`,
        `${node.families.map(address).join(',')} ${after.podCidrs.join(',')}`,
      ];
      if (was !== is)
        this.#failed.reject(
          new Error(`Node ${node.name} has another address or pod CIDR: was ${was}, is ${is}`),
        );
    });
  }

  /** Without a device that programs are attached to nothing works: everything is made anew. */
  #watchDevices(devices: Devices, uplinks: readonly Uplink[]): void {
    const needed = new Map([devices.host, devices.net, devices.vxlan].map(each => [each.index, each.name]));
    for (const { ifindex, name } of uplinks) needed.set(ifindex, name);
    watchLinks({
      signal: this.#stop.signal,
      onEvent: event => {
        const name = event.type === 'link-gone' ? needed.get(event.link.index) : undefined;
        if (name !== undefined) this.#failed.reject(new Error(`device ${name} is gone`));
      },
    });
  }

  /** Other clusters' tables: empty and complete where this cluster is in no mesh. */
  async #remoteTables(sources: Sources, verdicts: Verdicts): Promise<RemoteTables> {
    const { config } = this;
    if (config['cluster-id'] === 0) {
      const tables = remoteTables();
      for (const each of [tables.nodes, tables.identities, tables.endpoints, tables.services])
        each.markSynced();
      return tables;
    }
    // Loaded only in a mesh: the etcd client costs memory.
    const { RemoteClusters } = await import('../clustermesh/remote-clusters.ts');
    const { podsOfService } = await import('../clustermesh/service-endpoints.ts');
    this.remote = new RemoteClusters({
      folder: config['clustermesh-config'],
      cluster: config['cluster-name'],
      clusterId: config['cluster-id'],
      maxClusters: config['max-connected-clusters'],
      silence: config['clustermesh-heartbeat-timeout'] / 1000,
      nodes: sources.nodes,
      verdicts,
      // Where there is a mirror, its etcd is a Service of this cluster.
      resolve: endpoint => podsOfService(sources, endpoint),
      signal: this.#stop.signal,
    });
    return this.remote.tables;
  }

  /** Looks for nodes and clusters that do not answer, and says on our CiliumNode which: each change, once. */
  #probe(sources: Sources, remote: RemoteTables, verdicts: Verdicts, alone: Table<Accusation>): void {
    const { config, nodeName } = this;
    const { client } = this.#options;
    const signal = this.#stop.signal;
    const socket = new EchoSocket();
    const pulse = new Pulse({
      ask: timeout =>
        client.request('GET', pathOf(resources.ciliumNodes, { name: nodeName }), { timeout, signal }),
      isFollowing: () => sources.reflections.every(each => each.connected),
      interval: PULSE,
      onChange: (silent, reason) =>
        silent
          ? log.warn({ reason }, 'the API server does not answer: this agent judges alone who is dead')
          : log.info('the API server answers again: the nodes judge together who is dead'),
      signal,
    });
    this.pulse = pulse;
    const probes = new Probes({
      node: nodeName,
      nodes: sources.nodes,
      remoteNodes: remote.nodes,
      clusters: remote.clusters,
      verdicts,
      alone,
      apiServer: pulse,
      onSilentVia: cluster => this.remote?.unheardVia(cluster),
      belief: {
        failures: config['health-check-icmp-failure-threshold'],
        hold: config['health-check-hold'],
      },
      socket,
      now: () => performance.now(),
    });
    this.probes = probes;
    let timer: NodeJS.Timeout | undefined;
    const interval = config['health-check-interval'];
    let due = performance.now();
    const nextRound = (): void => {
      if (signal.aborted) return;
      const now = performance.now();
      due = nextRoundAt(due, now, interval);
      timer = setTimeout(() => void probes.round().then(nextRound), due - now).unref();
    };
    nextRound();
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      socket[Symbol.dispose]();
    });
    publishAccusation({
      client,
      node: nodeName,
      nodes: sources.nodes,
      accusation: probes.accusation,
      signal,
    });
  }

  #clusterEvents({ nodes }: Sources, verdicts: Verdicts): ClusterEvents {
    const recorder = new EventRecorder({
      client: this.#options.client,
      host: this.nodeName,
      onError: error => log.warn({ error: error.message }, 'event'),
    });
    return new ClusterEvents({ node: this.nodeName, nodes, verdicts, recorder });
  }

  #publish(sources: Sources, endpoints: Endpoints, node: ReadyNode): Reconciler<PublishedEndpoint> {
    const { client } = this.#options;
    const nodeIp = node.address;
    const rows = derivePublishedEndpoints({
      endpoints: endpoints.table,
      pods: sources.pods,
      identities: sources.identities,
      nodeIp,
    });
    const published = new Reconciler(rows, publishTarget({ client, present: sources.endpoints, nodeIp }), {
      batch: 32,
      signal: this.#stop.signal,
      backoff: { first: 100, max: 5000 },
      onError: (key, error, attempt) => {
        if (attempt % 10 === 1) log.warn({ key, attempt, error: error.message }, 'CiliumEndpoint');
      },
    });
    // Somebody deleted what we say: it is said again.
    sources.endpoints.subscribe(({ key, before, after }) => {
      if (before?.nodeIp === nodeIp && !after && rows.has(key)) void published.repair();
    });
    return published;
  }

  #publishNode(sources: Sources, node: ReadyNode): NodePublication {
    const path = pathOf(resources.ciliumNodes, { name: node.name });
    return publishNode({
      node,
      own: sources.node,
      nodes: sources.nodes,
      routing: this.config['routing-mode'],
      write: object => this.#options.client.apply(path, object),
      onError: (error, attempt) => {
        if (attempt % 10 === 1) log.warn({ error }, 'CiliumNode');
      },
      signal: this.#stop.signal,
    });
  }

  /** Everything a datapath needs has been read once; says what is missing, and gives up loudly. */
  async #whenRead(sources: Sources): Promise<void> {
    const tables = [
      sources.nodes,
      sources.services,
      sources.slices,
      sources.endpoints,
      sources.identities,
      sources.pods,
      sources.namespaces,
    ];
    const missing = (): string[] => tables.filter(each => !each.synced).map(each => each.name);
    await whenTrue(() => missing().length === 0, {
      signal: this.#stop.signal,
      timeout: SYNC_TIMEOUT,
      waiting: () => this.#waitFor(`these have not been read yet: ${missing().join(', ')}`),
      failure: () => {
        const reasons = sources.reflections.flatMap(({ path, failing }) =>
          failing ? [`${path}: ${failing.message}`] : [],
        );
        return `not read after ${SYNC_TIMEOUT / 1000} s: ${missing().join(', ')}; ${reasons.join('; ')}`;
      },
    });
  }

  /** Every remote cluster has been heard, or given up on, and what it said is written. */
  async #whenHeard(remote: RemoteTables, state: DatapathState): Promise<void> {
    this.#waitFor('maps of a new layout are being filled with what other clusters say');
    for (const each of [remote.nodes, remote.endpoints, remote.services]) await each.whenSynced();
    const services = await state.services;
    await whenQuiet([...Object.values(state.reconcilers), services.reconciler], this.#stop.signal);
  }

  /** Answers for addresses of services, where that is wanted. */
  #announce(
    sources: Sources,
    map: L2Options['map'],
    uplinks: readonly Uplink[],
    events: ClusterEvents,
  ): L2Announcements {
    const { config } = this;
    return runL2Announcements({
      client: this.#options.client,
      sources,
      map,
      uplinks,
      nodeName: this.nodeName,
      namespace: this.#options.environment.POD_NAMESPACE,
      lease: {
        duration: config['l2-announcements-lease-duration'],
        renew: config['l2-announcements-renew-deadline'],
        retry: config['l2-announcements-retry-period'],
      },
      signal: this.#stop.signal,
      onBad: ({ object, error }) => {
        log.warn({ policy: object, error: error.message }, 'policy left out');
        const subject = { ...typeOf(resources.l2AnnouncementPolicies), name: object };
        events.warn(subject, 'InvalidPolicy', error.message);
      },
      log: logOf('l2'),
    });
  }

  /** Where an upgrade or a setting changed a map that packets write, connections go on in the new one. */
  async #takeOverFlows(datapath: Datapath): Promise<void> {
    for (const taken of await datapath.takeOverFlows())
      log.info({ ...taken }, 'flows taken over from a map of another layout');
  }
}
