import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { createAuthority } from './pki.ts';

test('a certificate is signed by its authority and says who may do what', async () => {
  const authority = await createAuthority('kubernetes-us');
  const signed = await authority.sign({
    commonName: 'system:node:us-worker',
    organizations: ['system:nodes'],
    usages: ['client', 'server'],
    dnsNames: ['us-worker'],
    addresses: ['172.18.1.3'],
  });
  const ca = new X509Certificate(authority.certificate);
  const certificate = new X509Certificate(signed.certificate);
  assert.ok(ca.ca);
  assert.ok(!certificate.ca);
  assert.ok(certificate.checkIssued(ca));
  assert.ok(certificate.verify(ca.publicKey));
  assert.ok(certificate.checkPrivateKey(createPrivateKey(signed.key)));
  assert.equal(certificate.subject, 'O=system:nodes\nCN=system:node:us-worker');
  assert.equal(certificate.subjectAltName, 'DNS:us-worker, IP Address:172.18.1.3');
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1']);
});

test('two authorities do not vouch for each other', async () => {
  const [us, eu] = await Promise.all([createAuthority('kubernetes'), createAuthority('kubernetes')]);
  const { certificate } = await us.sign({ commonName: 'x', usages: ['client'] });
  assert.ok(!new X509Certificate(certificate).verify(new X509Certificate(eu.certificate).publicKey));
});
