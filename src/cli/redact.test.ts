import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { redactObject, redactText } from './redact.ts';

const { privateKey } = generateKeyPairSync('ec', {
  namedCurve: 'P-256',
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
});
const jwt = `eyJhbGciOiJSUzI1NiJ9.${Buffer.from('{"sub":"system:serviceaccount"}').toString('base64url')}.c2lnbmF0dXJlLXNpZ25hdHVyZQ`;

test('keys, tokens and passwords do not pass', () => {
  const body = privateKey.split('\n').slice(1, -2).join('');
  const texts: readonly (readonly [string, string])[] = [
    [`x ${privateKey} y`, body.slice(10, 40)],
    [JSON.stringify({ key: privateKey }), body.slice(10, 40)],
    [privateKey.slice(0, 90), privateKey.slice(60, 80)],
    [
      `tls.key: ${Buffer.from(privateKey).toString('base64')}`,
      Buffer.from(privateKey).toString('base64').slice(50, 90),
    ],
    [`{"msg":"GET /","authorization":"Bearer ${jwt}"}`, jwt.slice(30, 50)],
    [`token ${jwt}`, jwt.slice(30, 50)],
    ['dial https://joe:hunter22@example.com/x', 'hunter22'],
    ['etcd --password=hunter22 --port 1', 'hunter22'],
    ['"client_secret": "hunter22-and-more"', 'hunter22'],
    ['DB_PASSWORD=hunter22', 'hunter22'],
  ];
  for (const [text, secret] of texts) {
    assert.ok(
      text.replaceAll('\\n', '').replaceAll('\n', '').includes(secret) || text.includes(secret),
      text,
    );
    const left = redactText(text).replaceAll('\\n', '').replaceAll('\n', '');
    assert.ok(!left.includes(secret), left);
  }
});

test('what is no secret stays as it is', () => {
  for (const text of [
    '{"level":30,"msg":"lease","service":"kube-system/secret-store"}',
    'mount secret: not found',
    'secretName: clustermesh-apiserver-server-cert',
    '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----',
    'https://172.18.1.2:6443/api',
    'no token',
  ])
    assert.equal(redactText(text), text);
});

test('objects lose their environment’s values, what kubectl remembers, and who manages which field', () => {
  const pod = {
    metadata: {
      name: 'p',
      managedFields: [{ manager: 'helm' }],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{"password":"x"}', kept: 'yes' },
    },
    spec: {
      containers: [
        {
          env: [
            { name: 'PROXY', value: 'http://user:pw@proxy' },
            { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
          ],
        },
      ],
      volumes: [{ secret: { secretName: 'cert' } }, { projected: { token: 'abc' } }],
    },
  };
  assert.deepEqual(redactObject(pod), {
    metadata: { name: 'p', annotations: { kept: 'yes' } },
    spec: {
      containers: [
        {
          env: [
            { name: 'PROXY', value: '<redacted>' },
            { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
          ],
        },
      ],
      volumes: [{ secret: { secretName: 'cert' } }, { projected: { token: '<redacted>' } }],
    },
  });
});
