-- Texts of the terms that people accept. A version without rows here is told with the text that the program brings along.

CREATE TABLE terms_texts (
  version     text NOT NULL,
  language    text NOT NULL CHECK (language IN ('en', 'ru', 'uz')),
  title       text NOT NULL,
  body        text NOT NULL,
  created_by  uuid REFERENCES users (id),
  created_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (version, language)
);

-- Whether somebody accepted a version, withdrawn or not: its text then stays as it was read.
CREATE INDEX consents_version ON consents (terms_version);
