-- Lists of the policy, replaced as a whole by admins; each change counts the version up.

CREATE TABLE policy_lists (
  name        text PRIMARY KEY,
  version     int NOT NULL DEFAULT 0 CHECK (version >= 0),
  entries     jsonb NOT NULL,                        -- as the API has them (control-plane/policy/lists.ts)
  updated_by  uuid REFERENCES users (id),
  updated_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO policy_lists (name, entries) VALUES
  ('destinations', '{"denied_domains": [], "denied_ips": []}'),
  ('ports', '{"open_tcp": [80, 443], "open_udp": [53, 443], "never_allowed": []}'),
  ('origins', '{"asn_rules": [], "denied_ips": [], "allowed_asns": []}');
-- Denied destinations were a setting before.
UPDATE policy_lists p
   SET version = (s.value ->> 'version')::int, updated_by = s.updated_by, updated_at = s.updated_at,
       entries = jsonb_build_object('denied_domains', s.value -> 'deniedDomains', 'denied_ips', s.value -> 'deniedIps')
  FROM settings s WHERE p.name = 'destinations' AND s.key = 'destination_policy';
DELETE FROM settings WHERE key = 'destination_policy';

-- Values that one admin wants for settings which take two (control-plane/settings/two-admins.ts).
CREATE TABLE setting_proposals (
  key          text PRIMARY KEY,                     -- as in settings
  value        jsonb NOT NULL,
  proposed_by  uuid NOT NULL REFERENCES users (id),
  proposed_at  timestamptz NOT NULL DEFAULT now()
);
