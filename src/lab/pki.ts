import 'reflect-metadata';
import { generateKeyPairSync, type webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

/** A private key and its certificate, in PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

/** A certificate authority that can sign. */
export interface Authority extends KeyPair {
  readonly sign: (request: CertificateRequest) => Promise<KeyPair>;
}

export interface CertificateRequest {
  readonly commonName: string;
  /** Kubernetes reads them as the user's groups. */
  readonly organizations?: readonly string[];
  readonly usages: readonly ('client' | 'server')[];
  readonly dnsNames?: readonly string[];
  readonly addresses?: readonly string[];
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const day = 24 * 60 * 60 * 1000;
const lifetime = 365 * day;

/** Makes a certificate authority of its own: ECDSA P-256, because a lab waits for its keys. */
export async function createAuthority(commonName: string): Promise<Authority> {
  const keys = await generate();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [commonName] }],
    ...validity(),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    certificate: certificate.toString('pem'),
    key: await privateKey(keys.privateKey),
    sign: request => sign(certificate, keys.privateKey, request),
  };
}

/** Keys that sign service account tokens (ES256): not certificates, only a pair. */
export function createSigningKeys(): { readonly publicKey: string; readonly privateKey: string } {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'sec1', format: 'pem' },
  });
}

async function sign(
  issuer: x509.X509Certificate,
  issuerKey: CryptoKey,
  request: CertificateRequest,
): Promise<KeyPair> {
  const keys = await generate();
  const usages = request.usages.map(usage =>
    usage === 'client' ? x509.ExtendedKeyUsage.clientAuth : x509.ExtendedKeyUsage.serverAuth,
  );
  const names: x509.JsonGeneralNames = [
    ...(request.dnsNames ?? []).map(value => ({ type: 'dns' as const, value })),
    ...(request.addresses ?? []).map(value => ({ type: 'ip' as const, value })),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [...(request.organizations ?? []).map(O => ({ O: [O] })), { CN: [request.commonName] }],
    issuer: issuer.subjectName.toJSON(),
    ...validity(),
    signingAlgorithm: algorithm,
    signingKey: issuerKey,
    publicKey: keys.publicKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
    ],
  });
  return { certificate: certificate.toString('pem'), key: await privateKey(keys.privateKey) };
}

function generate(): Promise<webcrypto.CryptoKeyPair> {
  return crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

async function privateKey(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

function validity(): { readonly notBefore: Date; readonly notAfter: Date } {
  // An hour back: clocks of test machines jump.
  return { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + lifetime) };
}

function serial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  // Positive and without a leading zero byte, as DER wants it.
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return Buffer.from(bytes).toString('hex');
}
