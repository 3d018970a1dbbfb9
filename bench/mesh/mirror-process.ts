/**
 * Our mirror as a process of its own, as the container `kvstoremesh` has it but for what that asks Kubernetes:
 *
 *     node mirror-process.ts CLUSTER CLUSTER-ID OWN FOLDER
 *
 * OWN is the client configuration of its own etcd, FOLDER has one of each cluster that it copies.
 */
import { readFileSync } from 'node:fs';
import { Mirror } from '../../src/clustermesh/mirror.ts';
import { parseRemoteConfig } from '../../src/clustermesh/remote-config.ts';
import { keepSession } from '../../src/kvstore/session.ts';
import { log } from '../../src/log.ts';

const [cluster = '', clusterId, own = '', folder = ''] = process.argv.slice(2);
log.level = 'error';
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
const { endpoints, tls } = parseRemoteConfig(cluster, readFileSync(own, 'utf8'));
const mirror = new Mirror({
  name: 'mirror',
  folder,
  cluster,
  clusterId: Number(clusterId),
  maxClusters: 255,
  signal: stop.signal,
});
await keepSession(
  { endpoints: () => endpoints, tls, backoff: { first: 50, max: 1000 } },
  stop.signal,
  (connection, session) => mirror.serve(connection, session),
);
