import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatLabels, labelFilter, labelTexts, parseLabel, parseLabels, podLabels } from './labels.ts';

const pod = {
  namespace: 'shop',
  serviceAccount: 'default',
  cluster: 'eu',
  namespaceLabels: { 'kubernetes.io/metadata.name': 'shop' },
};

test("a pod's labels, namespace, service account and cluster, in Cilium's order", () => {
  const labels = podLabels({ ...pod, labels: { app: 'cart', tier: '', 'app.kubernetes.io/name': 'cart' } });
  assert.equal(
    formatLabels(labels),
    'k8s:app=cart;k8s:app.kubernetes.io/name=cart;' +
      'k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop;' +
      'k8s:io.cilium.k8s.policy.cluster=eu;k8s:io.cilium.k8s.policy.serviceaccount=default;' +
      'k8s:io.kubernetes.pod.namespace=shop;k8s:tier=;',
  );
  assert.deepEqual(parseLabels(formatLabels(labels)), labels);
  assert.ok(labelTexts(labels).includes('k8s:tier'));
});

test('labels that would give every pod an identity of its own are left out', () => {
  for (const key of [
    'pod-template-hash',
    'controller-revision-hash',
    'pod-template-generation',
    'controller-uid',
    'statefulset.kubernetes.io/pod-name',
    'apps.kubernetes.io/pod-index',
    'batch.kubernetes.io/job-completion-index',
    'batch.kubernetes.io/controller-uid',
    'topology.kubernetes.io/zone',
    'kubernetes.io/hostname',
    'beta.kubernetes.io/arch',
    'failure-domain.beta.kubernetes.io/zone',
    'k8s.io/x',
    'io.kubernetes.container.name',
    'annotation.foo',
    'etcd_node',
  ])
    assert.equal(labelFilter().relevant('k8s', key), false, key);
  for (const key of ['app', 'app.kubernetes.io/name', 'io.kubernetes.pod.namespace', 'team', 'version'])
    assert.equal(labelFilter().relevant('k8s', key), true, key);
  assert.equal(labelFilter().relevant('reserved', 'host'), true);
});

test('a pod cannot claim another namespace, cluster or service account by labels', () => {
  const labels = podLabels({
    ...pod,
    labels: {
      'io.cilium.k8s.policy.cluster': 'us',
      'io.kubernetes.pod.namespace': 'kube-system',
      'io.cilium.k8s.namespace.labels.team': 'root',
      'io.cilium.k8s.policy.serviceaccount': 'admin',
    },
  });
  assert.equal(labels['k8s:io.cilium.k8s.policy.cluster'], 'eu');
  assert.equal(labels['k8s:io.kubernetes.pod.namespace'], 'shop');
  assert.equal(labels['k8s:io.cilium.k8s.policy.serviceaccount'], 'default');
  assert.equal(Object.keys(labels).length, 4);
});

test('the option: an include makes a whitelist, the base labels stay', () => {
  const filter = labelFilter('k8s:app k8s:!app-secret');
  assert.equal(filter.relevant('k8s', 'app'), true);
  assert.equal(filter.relevant('k8s', 'app-secret'), false);
  assert.equal(filter.relevant('k8s', 'team'), false);
  assert.equal(filter.relevant('k8s', 'io.kubernetes.pod.namespace'), true);
  assert.throws(() => labelFilter('k8s:('), /pattern "k8s:\("/);
});

test('parsing single labels', () => {
  assert.deepEqual(parseLabel('k8s:app=a:b=c'), { source: 'k8s', key: 'app', value: 'a:b=c' });
  assert.deepEqual(parseLabel('app'), { source: 'unspec', key: 'app', value: '' });
  assert.deepEqual(parseLabel('reserved:host'), { source: 'reserved', key: 'host', value: '' });
  assert.throws(() => parseLabel('k8s:=x'), /the key is empty/);
});
