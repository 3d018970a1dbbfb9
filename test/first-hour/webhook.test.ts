/** The API server calls what runs in pods: admission webhooks and aggregated APIs behind a Service. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createAuthority, issueCertificate } from '../../src/clustermesh/x509.ts';
import { type ClusterOfTest, eventually, mesh, namespace, ready } from '../e2e/mesh.ts';

let us: ClusterOfTest;
let ns: Awaited<ReturnType<typeof namespace>>;
let ca = '';
const webhook = 'deny.isthmus.test';
const api = 'v1.echo.isthmus.test';

before(async () => {
  ({ us } = await mesh());
  ns = await namespace('first-hour-webhook');
  const notBefore = new Date(Date.now() - 60_000);
  const notAfter = new Date(Date.now() + 3_600_000);
  const authority = await createAuthority('first hour', notBefore, notAfter);
  ca = Buffer.from(authority.cert).toString('base64');
  const { cert, key } = await issueCertificate(authority, {
    commonName: 'webhook',
    dnsNames: [`webhook.${ns.name}.svc`, `echo.${ns.name}.svc`],
    usages: ['server'],
    notBefore,
    notAfter,
  });
  await us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'serving' },
      type: 'kubernetes.io/tls',
      stringData: { 'tls.crt': cert, 'tls.key': key },
    }),
    ns.name,
  );
  // Not on the node of the API server: the calls have to cross the network.
  await serve('webhook', 'us-worker', ['webhook', '--port=8443'], '/readyz');
  await serve('echo', 'us-worker2', ['netexec', '--http-port=8443'], '/healthz');
  await ready(us, ns.name, 'webhook', 'echo');
});
after(async () => {
  await us?.tryKubectl('delete', 'validatingwebhookconfiguration', webhook, '--ignore-not-found');
  await us?.tryKubectl('delete', 'apiservice', api, '--ignore-not-found');
  await ns?.[Symbol.asyncDispose]();
});

/** A pod that serves TLS, and a Service of its name on port 443. */
async function serve(name: string, node: string, args: readonly string[], path: string): Promise<void> {
  await us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, labels: { app: name } },
      spec: {
        nodeName: node,
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name,
            image: 'registry.k8s.io/e2e-test-images/agnhost:2.57',
            imagePullPolicy: 'IfNotPresent',
            args: [...args, '--tls-cert-file=/serving/tls.crt', '--tls-private-key-file=/serving/tls.key'],
            readinessProbe: { httpGet: { path, port: 8443, scheme: 'HTTPS' }, periodSeconds: 1 },
            volumeMounts: [{ name: 'serving', mountPath: '/serving' }],
          },
        ],
        volumes: [{ name: 'serving', secret: { secretName: 'serving' } }],
      },
    }),
    ns.name,
  );
  await us.apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { selector: { app: name }, ports: [{ port: 443, targetPort: 8443 }] },
    }),
    ns.name,
  );
}

test('a validating webhook behind a Service is asked, and its word counts', async () => {
  await us.apply(
    JSON.stringify({
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'ValidatingWebhookConfiguration',
      metadata: { name: webhook },
      webhooks: [
        {
          name: webhook,
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          failurePolicy: 'Fail',
          timeoutSeconds: 10,
          namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': ns.name } },
          rules: [
            { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] },
          ],
          clientConfig: {
            caBundle: ca,
            service: { namespace: ns.name, name: 'webhook', path: '/always-deny' },
          },
        },
      ],
    }),
  );
  let count = 0;
  const create = () => us.tryKubectl('-n', ns.name, 'create', 'configmap', `denied-${count++}`);
  // The API server takes the new configuration over a moment after it has been written.
  const refused = await eventually('a ConfigMap is refused', async () => {
    const { code, stderr } = await create();
    return code === 0 ? undefined : stderr;
  });
  assert.match(
    refused,
    /admission webhook "deny\.isthmus\.test" denied the request: this webhook denies all requests/,
  );
  for (let i = 0; i < 5; i++) assert.match((await create()).stderr, /this webhook denies all requests/);
  await us.kubectl('delete', 'validatingwebhookconfiguration', webhook);
  await eventually('ConfigMaps are accepted again', async () => (await create()).code === 0);
});

test('an aggregated API behind a Service is available, and answers kubectl', async () => {
  await us.apply(
    JSON.stringify({
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: api },
      spec: {
        group: 'echo.isthmus.test',
        version: 'v1',
        groupPriorityMinimum: 100,
        versionPriority: 100,
        caBundle: ca,
        service: { namespace: ns.name, name: 'echo', port: 443 },
      },
    }),
  );
  await us.kubectl('wait', '--for=condition=Available', '--timeout=60s', `apiservice/${api}`);
  const said = await eventually('the pod answers by the API server', () =>
    us.kubectl('get', '--raw', '/apis/echo.isthmus.test/v1/anything'),
  );
  assert.match(said, /^NOW: /);
});
